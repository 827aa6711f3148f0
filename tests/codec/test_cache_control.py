"""What headers say of lifetimes, case by case, and that nothing said breaks anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.codec.cache_control import FRESH_S_MAX, Lifetime, parse_lifetime

NOW_S = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
LATER = "Sun, 06 Nov 1994 08:50:37 GMT"
NOW = "Sun, 06 Nov 1994 08:49:37 GMT"


def parse(**headers):
    return parse_lifetime({name.replace("_", "-"): value for name, value in headers.items()}, wall_s=NOW_S)


@pytest.mark.parametrize(
    ("headers", "fresh_s"),
    [
        ({}, None),
        ({"cache_control": "public"}, None),
        ({"cache_control": "max-age=60"}, 60.0),
        ({"cache_control": "Public, MAX-AGE=60"}, 60.0),
        ({"cache_control": 'max-age="60"'}, 60.0),
        ({"cache_control": "max-age=60, s-maxage=5"}, 5.0),
        ({"cache_control": "max-age=60, max-age=5"}, 60.0),
        ({"cache_control": "max-age=1e9"}, 0.0),
        ({"cache_control": "max-age=-1"}, 0.0),
        ({"cache_control": "max-age"}, 0.0),
        ({"cache_control": "max-age=9999999999999"}, FRESH_S_MAX),
        ({"cache_control": "no-cache, max-age=60"}, 0.0),
        ({"expires": LATER}, 60.0),
        ({"expires": LATER, "date": LATER}, 0.0),
        ({"expires": NOW, "date": LATER}, 0.0),
        ({"expires": "0"}, 0.0),
        ({"expires": LATER, "cache_control": "max-age=5"}, 5.0),
        # A word within quotes is no directive.
        ({"cache_control": 'note="max-age=5, no-store", max-age=60'}, 60.0),
    ],
)
def test_lifetime_as_a_shared_cache_reads_it(headers, fresh_s):
    lifetime = parse(**headers)
    assert (lifetime.keep, lifetime.fresh_s) == (True, fresh_s)


@pytest.mark.parametrize(
    "headers",
    [
        {"cache_control": "no-store"},
        {"cache_control": "max-age=60, Private"},
        {"cache_control": 'private="set-cookie"'},
        {"vary": "*"},
        {"vary": "accept, *"},
    ],
)
def test_what_must_not_be_kept(headers):
    assert parse(**headers) == Lifetime(keep=False)


@pytest.mark.parametrize(("age", "age_s"), [("7", 7.0), ("7, 9", 7.0), ("x", 0.0), ("-7", 0.0), ("", 0.0)])
def test_age_on_the_way(age, age_s):
    assert parse(cache_control="max-age=60", age=age).age_s == age_s


def test_time_past_freshness():
    """RFC 5861's two; nothing said is None; forbidden is 0, also where a time is given."""
    told = parse(cache_control="max-age=60, stale-while-revalidate=5, stale-if-error=9")
    assert (told.revalidate_s, told.stale_s) == (5.0, 9.0)
    assert (parse().revalidate_s, parse().stale_s) == (None, None)
    for strict in ("must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"):
        told = parse(cache_control=f"{strict}, stale-while-revalidate=5, stale-if-error=9")
        assert (told.revalidate_s, told.stale_s) == (0.0, 0.0)


def test_names_are_taken_as_they_came():
    told = parse(etag='W/"a"', last_modified="whenever")
    assert (told.etag, told.last_modified) == ('W/"a"', "whenever")


@given(
    headers=st.dictionaries(st.sampled_from(["cache-control", "expires", "date", "age", "vary"]), st.text()),
)
def test_any_text_is_read(headers):
    """Whatever a header holds: no error, and lifetimes within their range."""
    told = parse_lifetime(headers, wall_s=NOW_S)
    for value in (told.fresh_s, told.age_s, told.revalidate_s, told.stale_s):
        assert value is None or 0.0 <= value <= FRESH_S_MAX
