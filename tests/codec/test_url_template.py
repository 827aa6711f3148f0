"""URL templates: what is written is what is asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.codec.url_template import parse_template
from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId

STEADY = settings(derandomize=True, deadline=None, database=None)
TILE = TileId(5, 17, 11)


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://h/{z}/{x}/{y}.png", "https://h/5/17/11.png"),
        ("https://h/{z}/{y}/{x}.png", "https://h/5/11/17.png"),
        ("https://h/{x}/{y}/{z}", "https://h/17/11/5"),
        ("https://h/{z}/{x}/{-y}.png", "https://h/5/17/20.png"),
        ("https://h/{zoom}/{x}/{inv_y}.png", "https://h/5/17/20.png"),
        ("https://{s}.h/{z}/{x}/{y}.png", "https://b.h/5/17/11.png"),
        ("https://{s}.h/{z}/{y}/{x}.png", "https://b.h/5/11/17.png"),
        ("https://{a-d}.h/{z}/{x}/{y}.png", "https://a.h/5/17/11.png"),
        ("https://t{0-3}.h/{q}", "https://t0.h/12023"),
        ("https://{switch:one,two,six}.h/{z}/{x}/{y}", "https://two.h/5/17/11"),
        ("https://{switch:only}.h/{z}/{x}/{y}", "https://only.h/5/17/11"),
        ("https://{s}.h/{s}/{z}/{x}/{y}", "https://b.h/b/5/17/11"),
        ("https://h/{quadkey}.jpg", "https://h/12023.jpg"),
        ("https://h/{z}/{x}/{y}{r}.png", "https://h/5/17/11.png"),
        ("https://h/{z}/{x}/{y}@2x.png?v=100%25&s=%d", "https://h/5/17/11@2x.png?v=100%25&s=%d"),
        ("https://h/{z}/{x}/{-y}?v=100%25&s=%d", "https://h/5/17/20?v=100%25&s=%d"),
        ("https://h/{z}/{z}/{x}/{y}/{x}", "https://h/5/5/17/11/17"),
        (
            "https://h/wms?BBOX={bbox-epsg-3857}",
            "https://h/wms?BBOX=1252344.271424327,5009377.085697311,2504688.542848654,6261721.357121638",
        ),
    ],
)
def test_template_is_filled(template, url):
    """Every form of the conventions, per cents untouched."""
    parts, expected = parse_template(template).url(TILE).split("BBOX="), url.split("BBOX=")
    assert parts[0] == expected[0]
    if len(parts) > 1:
        assert [float(part) for part in parts[1].split(",")] == pytest.approx(
            [float(part) for part in expected[1].split(",")]
        )


LITERALS = st.text(st.sampled_from("abc/%.-_&=+1"), max_size=6)


@given(
    st.lists(st.sampled_from(["z", "x", "y", "-y", "zoom", "inv_y", "q", "s"]), max_size=5),
    st.permutations(["z", "x", "y"]),
    st.lists(LITERALS, min_size=12, max_size=12),
    st.integers(0, 30),
    st.data(),
)
@STEADY
def test_any_order_is_filled_as_written(extra, needed, literals, z, data):
    """Holes and literals in any order: equal to replacing each hole by hand."""
    tile = TileId(z, data.draw(st.integers(0, (1 << z) - 1)), data.draw(st.integers(0, (1 << z) - 1)))
    holes = data.draw(st.permutations([*extra, *needed]))
    template = "https://h/" + "".join(
        literal + "{" + hole + "}" for hole, literal in zip(holes, literals, strict=False)
    )
    south = (1 << z) - 1 - tile.y
    by_hand = {
        "z": z, "x": tile.x, "y": tile.y, "-y": south, "zoom": z, "inv_y": south, "q": tile.quadkey,
        "s": "abc"[(tile.x + tile.y) % 3],
    }  # fmt: skip
    expected = template
    for hole, value in by_hand.items():
        expected = expected.replace("{" + hole + "}", str(value))
    assert parse_template(template).url(tile) == expected


def test_options_are_used():
    """Ratio, subdomains, TMS rows and values of one's own."""
    assert parse_template("https://h/{z}/{x}/{y}{r}.png", ratio=2).url(TILE) == "https://h/5/17/11@2x.png"
    assert parse_template("https://{s}.h/{z}/{x}/{y}", subdomains=["q"]).url(TILE) == "https://q.h/5/17/11"
    assert parse_template("https://h/{z}/{x}/{y}", tms=True).url(TILE) == "https://h/5/17/20"
    values = {"apikey": "a/b&c", "style": "d%"}
    template = parse_template("https://h/{style}/{z}/{x}/{y}?key={apikey}", values=values)
    assert template.url(TILE) == "https://h/d%25/5/17/11?key=a%2Fb%26c"


def test_secrets_are_not_shown_and_do_not_change_the_identity():
    """A rotated key is the same source; another host, path, style or ratio is not."""
    template = "https://u:{p}@h/{{style}}/{{z}}/{{x}}/{{y}}/{{apikey}}.png?token={t}"

    def parsed(p="canary1", t="canary2", apikey="canary3", style="day", ratio=1):
        return parse_template(
            template.format(p=p, t=t), values={"apikey": apikey, "style": style}, ratio=ratio
        )

    first = parsed()
    assert "canary" not in first.shown + repr(first).replace(repr(first.samples), "")
    assert first.identity == parsed(p="new", t="new", apikey="new").identity
    others = [parsed(style="night"), parsed(ratio=2), parse_template("https://h/{z}/{x}/{y}.png")]
    assert len({each.identity for each in [first, *others]}) == 4
    assert (
        parse_template("https://h/{z}/{x}/{y}").identity != parse_template("https://h/{z}/{y}/{x}").identity
    )
    assert len(first.identity) == 16


def test_media_type_is_guessed_by_the_ending():
    """From the path, not from the query; nothing where nothing stands."""
    types = {"png": "image/png", "jpg": "image/jpeg", "pbf": "application/vnd.mapbox-vector-tile"}
    for ending, media_type in types.items():
        assert parse_template(f"https://h/{{z}}/{{x}}/{{y}}.{ending}").media_type == media_type
        assert parse_template(f"https://h/{{z}}/{{x}}/{{y}}{{r}}.{ending}?a=b.gif").media_type == media_type
    assert parse_template("https://h.png/{z}/{x}/{y}").media_type == ""


def test_samples_name_every_host():
    """One address for each subdomain, so that the operator's own hosts are known."""
    samples = parse_template("https://{a-c}.h:81/{z}/{x}/{y}").samples
    assert [url.split("/")[2] for url in samples] == ["a.h:81", "b.h:81", "c.h:81"]
    assert len(parse_template("https://h/{z}/{x}/{y}").samples) == 1


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("https://h/{z}/{x}/{yy}", "unknown variable {yy}; did you mean {y}?"),
        ("https://h/{z}/{x}/{y}/{quadkye}", "did you mean {quadkey}?"),
        ("https://h/{Z}/{x}/{y}", "did you mean {z}?"),
        ("https://h/{z}/{x}/{y}/{wotsit}", "known are {z}, {x}"),
        ("https://h/{z}/{x}/{y}/{}", "unknown variable {}"),
        ("https://h/{z}/{x}", "lacks {y}"),
        ("https://h/{y}.png", "lacks {z}, {x}"),
        ("https://h/", "lacks {z}, {x}, {y}"),
        ("https://h/{z}/{x}/{-y", "brace"),
        ("https://h/{z}/{x}/{y}}", "brace"),
        ("https://h/%(z)s/%(x)s/%(y)s.png", "https://h/{z}/{x}/{y}.png"),
        ("https://h/%(tms_path)s.png?b=%(bbox)s", "{z}/{x}/{y}.png?b={bbox-epsg-3857}"),
        ("https://h/{z}/{x}/{y}?key=${MAP_KEY}", "${MAP_KEY} in the template is not set"),
        ("https://h/{z}/{x}/{y} .png", "white space"),
        ("https://h/{z}/{x}/{y}\r\nHost: i", "white space"),
        ("https://{switch:a,}.h/{z}/{x}/{y}", "no subdomain"),
        ("https://{switch:evil.com/,b}.h/{z}/{x}/{y}", "no subdomain"),
        ("https://{c-a}.h/{z}/{x}/{y}", "no subdomain"),
        ("https://{a-c}.{1-3}.h/{z}/{x}/{y}", "two different lists"),
        ("https://u:p\xff]h/{z}/{x}/{y}", "no address"),
        ("https://[{a-c}]/{z}/{x}/{y}", "no address"),
        ("https://h:99999999/{z}/{x}/{y}", "port"),
        ("https://h:a\x85b/{z}/{x}/{y}", "no address"),
    ],
)
def test_wrong_template_is_refused(template, said):
    """One line that names the mistake and what was probably meant."""
    with pytest.raises(ConfigError) as caught:
        parse_template(template)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_options_are_refused():
    """Ratio and subdomains are checked too, and a message never repeats a key."""
    with pytest.raises(ConfigError, match="ratio 5"):
        parse_template("https://h/{z}/{x}/{y}", ratio=5)
    with pytest.raises(ConfigError, match="subdomains is empty"):
        parse_template("https://{s}.h/{z}/{x}/{y}", subdomains=[])
    with pytest.raises(ConfigError) as caught:
        parse_template("https://h/{z}/{x}?key=canary7f3a")
    assert "canary7f3a" not in str(caught.value)
