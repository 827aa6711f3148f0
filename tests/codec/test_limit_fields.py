"""Quota fields: every form, what is wrong with them, and noise."""

from calendar import timegm

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.codec.http_dates import WAIT_S_MAX
from tilehaul.codec.limit_fields import FIELD_CHARS_MAX, LimitReading, Quota, parse_limit_fields

WALL_S = float(timegm((2026, 11, 22, 12, 0, 0)))


def read(**fields: str) -> LimitReading:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return parse_limit_fields(headers, wall_s=WALL_S)


@pytest.mark.parametrize(
    ("fields", "quota"),
    [
        ({"ratelimit": '"default";r=50;t=30'}, Quota(50, 30.0)),
        ({"ratelimit": '"default"; r=50; t=30'}, Quota(50, 30.0)),
        ({"ratelimit": '"default";r=50'}, Quota(50)),
        ({"ratelimit": 'default;t=30;r=0;x="a\\"b";y;z=?0;b=:YQ==:'}, Quota(0, 30.0)),
        (
            {"ratelimit": '"burst";r=5;t=9', "ratelimit_policy": '"day";q=1000;w=86400, "burst";q=100;w=60'},
            Quota(5, 9.0, 100, 60.0),
        ),
        ({"ratelimit": '"a";r=5;t=9,  "b, c";r=3;t=1'}, Quota(3, 1.0)),
        ({"ratelimit": '"a";r=0;t=9, "b";r=0;t=60, "c";r=0'}, Quota(0, 60.0)),
        (
            {"ratelimit": '"a";r=5, "b";r=0;t=3', "ratelimit_policy": '"b";q=9;qu="content-bytes", "a";q=7'},
            Quota(5, None, 7),
        ),
        ({"ratelimit": '"a";r=5', "ratelimit_policy": '"a";q=9;qu="requests"'}, Quota(5, None, 9)),
        ({"ratelimit": "limit=100, remaining=50, reset=30"}, Quota(50, 30.0, 100)),
        ({"ratelimit": "remaining=0,reset=7, policy=3"}, Quota(0, 7.0)),
        (
            {"ratelimit_limit": "100", "ratelimit_remaining": "0", "ratelimit_reset": "12"},
            Quota(0, 12.0, 100),
        ),
        ({"ratelimit_limit": "100, 100;w=60", "ratelimit_remaining": "9"}, Quota(9, None, 100)),
        ({"x_ratelimit_remaining": "3", "x_ratelimit_reset": "1.5"}, Quota(3, 1.5)),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(WALL_S) + 40)}, Quota(0, 40.0)),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(WALL_S * 1000) + 2500)}, Quota(0, 2.5)),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(WALL_S) - 40)}, Quota(0, 0.0)),
        (
            {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "Sun, 22 Nov 2026 12:00:30 GMT"},
            Quota(0, 30.0),
        ),
        (
            {
                "x_rate_limit_limit": "10",
                "x_rate_limit_remaining": "0",
                "x_rate_limit_reset": f"{WALL_S:.0f}",
            },
            Quota(0, 0.0, 10),
        ),
        # An hour's difference between the clocks: the answer's own Date counts.
        (
            {
                "x_rate_limit_remaining": "0",
                "x_rate_limit_reset": str(int(WALL_S) + 3600 + 5),
                "date": "Sun, 22 Nov 2026 13:00:00 GMT",
            },
            Quota(0, 5.0),
        ),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "9" * 15}, Quota(0, WAIT_S_MAX)),
        ({"ratelimit": '"a";r=0;t=999999999999999'}, Quota(0, WAIT_S_MAX)),
        # The first form present wins.
        ({"ratelimit": '"a";r=1', "ratelimit_remaining": "2", "x_ratelimit_remaining": "3"}, Quota(1)),
        ({"ratelimit_remaining": "2", "x_ratelimit_remaining": "3"}, Quota(2)),
        ({"ratelimit_remaining": "2", "age": "0"}, Quota(2)),
    ],
)
def test_every_form_is_read(fields: dict[str, str], quota: Quota) -> None:
    assert read(**fields) == LimitReading(quota)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"content_type": "image/png", "retry_after": "5"},
        {"x_ratelimit_limit": "100"},
        {"ratelimit_policy": '"a";q=5'},
        {"ratelimit": '"a";r=5', "ratelimit_policy": '"a";q=9;qu="concurrent-requests"'},
        {"ratelimit": '"a";r=0;t=5', "age": "17"},
    ],
)
def test_nothing_usable_is_nothing(fields: dict[str, str]) -> None:
    assert read(**fields) == LimitReading()


@pytest.mark.parametrize(
    "fields",
    [
        {"ratelimit": ""},
        {"ratelimit": "50"},
        {"ratelimit": '"a";r=-1'},
        {"ratelimit": '"a";r=1.5'},
        {"ratelimit": '"a";r=5;t=soon'},
        {"ratelimit": '"a";t=5'},
        {"ratelimit": '"a;r=5'},
        {"ratelimit": '"a";r=5,'},
        {"ratelimit": '"a";r=5 "b";r=4'},
        {"ratelimit": '"a";r=' + "9" * 16},
        {"ratelimit": '"' + "a" * FIELD_CHARS_MAX + '";r=5'},
        {"ratelimit": "remaining=5, x=" + "a" * FIELD_CHARS_MAX},
        {"x_ratelimit_remaining": "many"},
        {"x_ratelimit_remaining": "-1"},
        {"x_ratelimit_remaining": "\u0663"},
    ],
)
def test_malformed_is_ignored(fields: dict[str, str]) -> None:
    assert read(**fields) == LimitReading(None)


def test_malformed_part_leaves_the_rest() -> None:
    reading = read(ratelimit='"a";r=5', ratelimit_policy="(", ratelimit_limit="x")
    assert reading == LimitReading(Quota(5))
    reading = read(ratelimit="?", x_ratelimit_remaining="4", x_ratelimit_reset="later", x_ratelimit_limit="?")
    assert reading == LimitReading(Quota(4))


def test_one_bad_item_does_not_hide_the_good_one() -> None:
    assert read(ratelimit='"a";r=5, "b";r=x') == LimitReading(Quota(5))


def test_empty_quota_closes_the_gate_until_there_is_more() -> None:
    assert Quota(0, 12.0).hold_s == 12.0
    assert Quota(1, 12.0).hold_s is None
    assert Quota(0).hold_s is None
    assert Quota(0, 0.0).hold_s is None


def test_little_quota_is_spread_over_the_time_left() -> None:
    """Only when less is left than is under way."""
    assert Quota(5, 10.0).pace_per_s(in_flight=6) == 0.5
    assert Quota(5, 10.0).pace_per_s(in_flight=5) is None
    assert Quota(0, 10.0).pace_per_s(in_flight=5) is None
    assert Quota(5).pace_per_s(in_flight=6) is None


NAMES = [
    "ratelimit", "ratelimit-policy", "age", "date",
    *(f"{prefix}-{part}" for prefix in ("ratelimit", "x-ratelimit", "x-rate-limit")
      for part in ("limit", "remaining", "reset")),
]  # fmt: skip
PIECES = st.sampled_from(
    [
        '"a"',
        ";r=",
        ";t=",
        "5",
        "0",
        ",",
        " ",
        "limit=",
        "remaining=",
        "reset=",
        "-",
        "1e9",
        "?1",
        ":",
        "\\",
        '"',
    ]
)
# Headers are Latin-1 bytes; `st.text` would load tables of all of Unicode first.
LATIN = st.binary(max_size=40).map(lambda raw: raw.decode("latin-1"))
VALUES = st.one_of(LATIN, st.lists(PIECES, max_size=12).map("".join), st.integers().map(str))


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_noise_never_raises_and_never_leaves_the_ranges(headers: dict[str, str]) -> None:
    reading = parse_limit_fields(headers, wall_s=WALL_S)
    quota = reading.quota
    if quota is not None:
        assert quota.remaining >= 0
        assert quota.reset_s is None or 0.0 <= quota.reset_s <= WAIT_S_MAX
        assert quota.limit is None or quota.limit >= 0
        assert quota.window_s is None or 0.0 <= quota.window_s <= WAIT_S_MAX


@given(r=st.integers(0, 10**6), t=st.integers(0, 10**6), q=st.integers(0, 10**6), w=st.integers(0, 10**6))
def test_what_is_written_is_read_back(r: int, t: int, q: int, w: int) -> None:
    reading = read(ratelimit=f'"p";r={r};t={t}', ratelimit_policy=f'"p";q={q};w={w}')
    assert reading == LimitReading(Quota(r, float(t), q, float(w)))
