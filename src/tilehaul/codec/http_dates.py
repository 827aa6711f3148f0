"""Dates and waits as HTTP headers spell them."""

import calendar
import re

# The largest wait that is told apart: more than that is "never", and policy parks the lane anyway.
WAIT_S_MAX = 1e9

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number + 1 for number, name in enumerate(_MONTH_NAMES)}
_TIME = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
# RFC 9110, 5.6.7: IMF-fixdate, and the two obsolete forms a recipient must read as well.
_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"[a-z]{{3}}, (?P<day>\d{{2}}) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} GMT",
        rf"[a-z]{{6,9}}, (?P<day>\d{{2}})-(?P<month>[a-z]{{3}})-(?P<year>\d{{2}}) {_TIME} GMT",
        rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
_SECONDS = re.compile(r"(-?)\d+(?:\.\d+)?", re.ASCII)
# Seconds in fifty years, for two-digit years (RFC 9110, 5.6.7).
_FIFTY_YEARS_S = 50 * 365.25 * 86400


def parse_http_date(text: str, *, wall_s: float) -> float | None:
    """Seconds since 1970 of an HTTP date in any of its three forms; None when it is none.

    Args:
        text: The header's value.
        wall_s: The time now, seconds since 1970: a two-digit year means one at most 50 years ahead.
    """
    for form in _FORMS:
        found = form.fullmatch(text.strip())
        if found:
            break
    else:
        return None
    month = _MONTHS.get(found["month"].lower())
    day, hour, minute, second = (int(found[part]) for part in ("day", "hour", "minute", "second"))
    # 60 is a leap second.
    if month is None or not 1 <= day <= 31 or hour > 23 or minute > 59 or second > 60:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += 2000
        if _seconds(year, month, day, hour, minute, second) - wall_s > _FIFTY_YEARS_S:
            year -= 100
    if not 1 <= year <= 9999 or day > calendar.monthrange(year, month)[1]:
        return None
    return _seconds(year, month, day, hour, minute, second)


def parse_retry_after(value: str, *, date_header: str | None, wall_s: float) -> float | None:
    """Seconds to wait that a Retry-After header asks for; None when it makes no sense.

    Args:
        value: Seconds (a fraction is read too) or an HTTP date.
        date_header: The Date header of the same answer: a date is counted from there, so that a
            clock that is wrong on either side does not matter. Without one, or with one that is no
            date, from `wall_s`.
        wall_s: The time now, seconds since 1970.

    Returns:
        0.0 for a negative number or a date that has passed, at most `WAIT_S_MAX`.
    """
    text = value.strip()
    seconds = _SECONDS.fullmatch(text)
    if seconds:
        return 0.0 if seconds[1] else min(float(text), WAIT_S_MAX)
    until_s = parse_http_date(text, wall_s=wall_s)
    if until_s is None:
        return None
    sent_s = parse_http_date(date_header, wall_s=wall_s) if date_header else None
    return min(max(until_s - (wall_s if sent_s is None else sent_s), 0.0), WAIT_S_MAX)


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float:
    return float(calendar.timegm((year, month, day, hour, minute, second)))
