"""No secret survives redaction, however it is dressed."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.codec.safe_url import MASK, is_secret_name, redact, redact_text

STEADY = settings(derandomize=True, deadline=None, database=None)
CANARY = "canary7f3a"

SECRET_NAMES = [
    "key", "apikey", "api_key", "api-key", "API.Key", "access_token", "token", "sig", "signature",
    "password", "secret", "subscription-key", "X-Amz-Signature", "X-Amz-Credential",
    "X-Amz-Security-Token", "x-goog-signature", "map_key", "client_secret", "session", "tk", "ak",
    "appid", "code", "hmac",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize(
    "form",
    [
        "https://h/1/2/3.png?{name}={value}",
        "https://h/?a=1&{name}={value}&b=2",
        "https://h/?a=1;{name}={value}",
        "https://h/#{name}={value}",
        "https://h/x;{name}={value}",
        "wms+https://h?{name}={value}",
        "/path?{name}={value}",
        "https://h/?url=https%3A%2F%2Fi%2F%3F{name}%3D{value}",
        "https://h/?url=https%253A%252F%252Fi%252F%253F{name}%253D{value}",
        "https://h/proxy/https://i/?{name}={value}",
    ],
)
def test_named_secret_is_masked(name, form):
    """In query, fragment, path parameter, nested address, once or twice encoded."""
    shown = redact(form.format(name=name, value=CANARY))
    assert CANARY not in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{CANARY}@h/x",
        f"https://{CANARY}@h/x",
        f"https://user:{CANARY}/with?odd#signs@h/x",
        f"https://user:a@{CANARY}@h/x",
        f"//user:{CANARY}@h/x",
        f"user:{CANARY}@h/x",
        f"https://h/proxy/https://user:{CANARY}@i/x",
        f"https://h/?u=https%3A%2F%2Fuser%3A{CANARY}%40i%2F",
        f"https://h/?%6Bey={CANARY}",
        f"https://h/?KEY={CANARY}",
        f"https://h/?a=b?key={CANARY}",
        f"https://[::1]:80:{CANARY}@h/",
    ],
)
def test_odd_places_are_masked(url):
    """Userinfo with raw delimiters, encoded names, addresses in addresses."""
    assert CANARY not in redact(url)


ALPHABET = st.text(st.sampled_from("ab&=?;#/:@%.-_ *é{}[]\n\t0") | st.characters(), max_size=20)


@given(ALPHABET, st.sampled_from(SECRET_NAMES), ALPHABET)
@settings(STEADY, max_examples=300)
def test_planted_canary_never_leaks(before, name, after):
    """Whatever stands around it in the query, the secret's value is gone, and the result is one word."""
    shown = redact(f"https://h/{before}?{name}={CANARY}&{after}")
    assert CANARY not in shown
    assert len(shown.split()) == 1


@given(ALPHABET)
@settings(STEADY, max_examples=300)
def test_any_text_is_survived_as_one_word(text):
    """Never raises, neither on halves of characters nor on brackets; what comes has no white space."""
    assert len(redact(text).split()) <= 1
    assert len(redact(f"https://h/?u={text}\ud800://", secrets=["\ud800x"]).split()) == 1
    assert "canary" not in redact_text(f"{text} token=canary")


@pytest.mark.parametrize(
    "url",
    [
        "https://tile.example.com/3/4/2@2x.png",
        "https://h:8080/a@2x.png?v=3&quadkey=0123",
        "https://[::1]:8080/x@2x.png",
        "https://{s}.h/{z}/{x}/{y}.png",
        "r2://bucket/tiles",
        "./folder/file.mbtiles",
        "",
        "https://h/wms?SERVICE=WMS&BBOX=1,2,3,4&LAYERS=a:b",
    ],
)
def test_harmless_addresses_are_untouched(url):
    """What hides nothing is shown as it is."""
    assert redact(url) == url


def test_exact_forms():
    """The rest of the address stays readable."""
    assert redact("https://u:p@h/x?key=1&z=2") == "https://***@h/x?key=***&z=2"
    assert redact("https://h/a b\n") == "https://h/a%20b%0A"
    assert redact("https://h/?key=") == "https://h/?key="


def test_named_values_are_masked_in_the_path():
    """A key that a template puts into the path is masked when it is named, also encoded, also overlapping."""
    secret = "a/b+" + CANARY
    for form in (secret, quote(secret, safe=""), quote(secret)):
        assert CANARY not in redact(f"https://h/{form}/3/4/2.png", secrets=[secret, "a", ""])
    assert redact("https://h/k1/3.png", secrets=["k1"]) == "https://h/***/3.png"


@pytest.mark.parametrize(
    "text",
    [
        f"see https://user:{CANARY}@h/x?a=1 for more",
        f'{{"token": "{CANARY}", "a": 1}}',
        f"Authorization: Bearer {CANARY}",
        f"invalid api_key={CANARY}",
        f"<a href='https://h/?sig={CANARY}'>",
    ],
)
def test_secrets_in_free_text_are_masked(text):
    """Messages of others and heads of error pages."""
    assert CANARY not in redact_text(text)
    assert redact_text("Rate limit exceeded: 5 per s") == "Rate limit exceeded: 5 per s"


def test_code_of_a_service_exception_is_shown():
    """It says what is wrong; any other code may be one that logs somebody in."""
    report = '<ServiceException code="InvalidCRS" locator="srs">No such CRS</ServiceException>'
    assert redact_text(report) == report
    assert CANARY not in redact_text(f'<ServiceException locator="x" code="{CANARY}"> code={CANARY}')


def test_plain_names_are_not_secret():
    """Words that only look like it."""
    for name in ("x", "quadkey", "layers", "bbox", "style", "keyboard", "v", "format"):
        assert not is_secret_name(name)


def test_deeply_nested_address_is_masked_whole():
    """Beyond the depth that is followed, a value that holds more addresses is not shown at all."""
    url = f"https://h/?key={CANARY}"
    for _ in range(8):
        url = "https://h/?u=" + quote(url, safe="")
        assert CANARY not in redact(url)
    plain = "https://h/?u=" + quote("https://i/?x=1", safe="")
    assert redact(plain) == plain


def test_longer_of_two_secrets_is_masked_first():
    """One that begins like another must not leave its rest."""
    assert redact("https://h/ab" + CANARY, secrets=["ab", "ab" + CANARY]) == "https://h/***"
