"""The pace of a quota: what is left is spread, and forgotten when the quota is renewed."""

import pytest

from tilehaul.policy.quota_pace import QuotaPace


def test_no_quota_no_wait() -> None:
    assert QuotaPace().wait_s(1000.0) == 0.0


def test_what_is_left_lasts_until_the_reset() -> None:
    """Five left for ten seconds: one every two seconds, and not six."""
    pace = QuotaPace()
    now_s = 1000.0
    pace.on_quota(now_s, 0.5, 10.0)
    sent_s = []
    while now_s < 1009.9:
        now_s += pace.wait_s(now_s)
        if now_s < pace.until_s:
            sent_s.append(now_s)
        pace.on_send(now_s)
    assert sent_s == pytest.approx([1002.0, 1004.0, 1006.0, 1008.0])
    assert pace.wait_s(1010.0) == 0.0


def test_news_while_it_runs_neither_lets_one_more_through_nor_starves() -> None:
    """Every answer repeats the quota: the next request keeps its time."""
    pace = QuotaPace()
    for step in range(10):
        pace.on_quota(1000.0 + step / 10, 0.5, 10.0)
    assert pace.wait_s(1001.0) == pytest.approx(1.0)


def test_plenty_left_ends_it() -> None:
    pace = QuotaPace()
    pace.on_quota(1000.0, 0.5, 10.0)
    pace.on_quota(1001.0, None, 9.0)
    assert pace.until_s < 1001.0
