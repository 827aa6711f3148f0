"""Retry-After in all its forms."""

import pytest

from tilehaul.codec.http_dates import WAIT_S_MAX, parse_http_date, parse_retry_after

# Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110, 5.6.7.
EXAMPLE_S = 784111777.0


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " sun, 06 nov 1994 08:49:37 gmt ",
    ],
)
def test_all_three_forms_are_one_time(text):
    """IMF-fixdate, RFC 850, asctime."""
    assert parse_http_date(text, wall_s=EXAMPLE_S + 30 * 365 * 86400) == EXAMPLE_S


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "Sun, 06 Nov 1994", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)  # fmt: skip
def test_garbage_is_no_date(text):
    """None, never an exception."""
    assert parse_http_date(text, wall_s=0.0) is None


def test_two_digit_year_is_at_most_fifty_years_ahead():
    """RFC 9110, 5.6.7: 94 is 1994 in 2026, and 60 is 2060."""
    now_s = 1_790_000_000.0
    assert parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", wall_s=now_s) == EXAMPLE_S
    later_s = parse_http_date("Saturday, 06-Nov-60 08:49:37 GMT", wall_s=now_s)
    assert later_s is not None
    assert later_s > now_s


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("1.5", 1.5), ("-5", 0.0), ("-0", 0.0),
        (str(10**12), WAIT_S_MAX), ("9" * 5000, WAIT_S_MAX),
        ("", None), ("soon", None), ("1e3", None), ("inf", None), ("nan", None), ("0x10", None),
        ("1,2", None), ("5 s", None), ("٣", None),
    ],
)  # fmt: skip
def test_seconds(value, wait_s):
    """Digits are read, negative is now, nonsense is ignored, absurd is bounded."""
    assert parse_retry_after(value, date_header=None, wall_s=0.0) == wait_s


@pytest.mark.parametrize("skew_s", [-3600.0, 0.0, 3600.0])
def test_date_is_counted_from_the_answers_own_date(skew_s):
    """An hour of clock error on our side changes nothing when the answer says when it was sent."""
    wait_s = parse_retry_after(
        "Sun, 06 Nov 1994 08:49:37 GMT",
        date_header="Sun, 06 Nov 1994 08:49:07 GMT",
        wall_s=EXAMPLE_S + skew_s,
    )
    assert wait_s == 30.0


def test_date_without_a_date_header_is_counted_from_the_wall_clock():
    """Also when the header is garbage; a time that has passed is now."""
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert parse_retry_after(date, date_header=None, wall_s=EXAMPLE_S - 10) == 10.0
    assert parse_retry_after(date, date_header="yesterday", wall_s=EXAMPLE_S - 10) == 10.0
    assert parse_retry_after(date, date_header=None, wall_s=EXAMPLE_S + 10) == 0.0
