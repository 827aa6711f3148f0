"""The settings of every policy: what is just allowed, what is just not, and what the refusal says."""

from math import inf, nan
from typing import Any

import pytest

from tilehaul.errors import ConfigError
from tilehaul.policy.breaker import BreakerRule, counting_rule
from tilehaul.policy.budget import BudgetRule
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.policy.health import HealthRule
from tilehaul.policy.limit import FixedLimit
from tilehaul.policy.limit_rule import LIMIT_MAX, LimitRule, limit_rule
from tilehaul.policy.pace import PaceRule
from tilehaul.policy.rate import RateRule
from tilehaul.policy.retry_heap import RetryHeap

TINY = 1e-9
BREAKER_S = "window and probe lease of a breaker must be above 0 seconds"
BREAKER_COUNTS = "calls, failures and successes of a breaker must be 1 or more"
BREAKER_SHARES = "the shares of a breaker must be in 0 to 1"
BREAKER_JITTER = "the jitter share of a breaker must be in 0 to 1"
BREAKER_OPEN = "a breaker opens for more than 0 seconds, and at most for open_s_max"
BUDGET = "a retry budget needs 1 token or more, no negative return, a floor above 0"
FRESH_S = "a lifetime of cached tiles must be 0 seconds or more"
FRESH_SHARE = "absent_spread_share must be at least 0 and below 1"
HEALTH = "health: the failure share must be in 0 to 1, the attempts 1 or more, no negative wait"
LIMIT_S = "window and probe interval of a limit must be above 0"
LIMIT_FACTORS = "tolerance, slow start and room of a limit must be 1 or more"
LIMIT_SHARES = "cut and shares of a limit must be above 0 and at most 1"
LIMIT_PROBE = "probe spread, pay share and windows to hold of a limit must be 0 or more"
LIMIT_WARY = "the wariness of a limit must be 0 or more"
PACE = "a pace's cut must be in 0 to 1, its growth above 0, its headroom above 1"
PACE_RATES = "the rates of a pace must be above 0"
PACE_EARLY = "a pace begins after 1 early push-back or more"

PACE_PAYS = "what a pace must pay, and the weight of the last time, are above 0 and at most 1"
RATE = "a rate must be above 0 requests a second, not {}"


@pytest.mark.parametrize(
    ("rule", "name", "allowed", "refused", "words"),
    [
        (BreakerRule, "window_s", [TINY], [0.0, -1.0, nan], BREAKER_S),
        (BreakerRule, "probe_lease_s", [TINY], [0.0, -1.0, nan], BREAKER_S),
        (BreakerRule, "slow_s_min", [0.0], [-TINY, nan], BREAKER_S),
        (BreakerRule, "calls_min", [1], [0], BREAKER_COUNTS),
        (BreakerRule, "failures_min", [1], [0], BREAKER_COUNTS),
        (BreakerRule, "successes_to_close", [1], [0], BREAKER_COUNTS),
        (BreakerRule, "failure_share", [0.0, 1.0], [-TINY, 1.1, nan], BREAKER_SHARES),
        (BreakerRule, "slow_share", [TINY, 1.0], [0.0, 1.1, nan], BREAKER_SHARES),
        (BreakerRule, "jitter_share", [0.0, 1.0], [-TINY, 1.1], BREAKER_JITTER),
        (BreakerRule, "open_s_first", [TINY, 120.0], [0.0, 120.1, nan], BREAKER_OPEN),
        (BreakerRule, "open_s_max", [5.0], [4.9, inf], BREAKER_OPEN),
        (BreakerRule, "slow_factor", [1.0, inf], [0.9, nan], BREAKER_OPEN),
        (BudgetRule, "tokens_max", [1.0], [0.9, nan], BUDGET),
        (BudgetRule, "per_success", [0.0], [-TINY, nan], BUDGET),
        (BudgetRule, "floor_per_s", [TINY], [0.0, nan], BUDGET),
        (FreshnessRule, "tile_s", [0.0, TINY], [-TINY, nan], FRESH_S),
        (FreshnessRule, "absent_s", [0.0, TINY], [-TINY, nan], FRESH_S),
        (FreshnessRule, "absent_spread_share", [0.0, 0.99], [-TINY, 1.0, nan], FRESH_SHARE),
        (HealthRule, "failure_share", [0.0, 0.99], [-TINY, 1.0, nan], HEALTH),
        (HealthRule, "ended_min", [1], [0], HEALTH),
        (HealthRule, "held_s", [0.0], [-TINY, nan], HEALTH),
        (LimitRule, "most", [4, LIMIT_MAX], [0, 1001], "a lane's limit must be 1 to 1000, not {}"),
        (LimitRule, "start", [1, 32], [0, 33], "a lane must start between 1 and its limit 32, not at {}"),
        (LimitRule, "window_s", [TINY], [0.0, nan], LIMIT_S),
        (LimitRule, "window_samples", [1], [0], LIMIT_S),
        (LimitRule, "probe_every_s", [TINY], [0.0, nan], LIMIT_S),
        (LimitRule, "tolerance", [1.0], [0.9, nan], LIMIT_FACTORS),
        (LimitRule, "slow_start", [1.0], [0.9, nan], LIMIT_FACTORS),
        (LimitRule, "room", [1.0], [0.9, nan], LIMIT_FACTORS),
        (LimitRule, "cut", [TINY, 1.0], [0.0, 1.1, nan], LIMIT_SHARES),
        (LimitRule, "probe_share", [TINY, 1.0], [0.0, 1.1], LIMIT_SHARES),
        (LimitRule, "failed_share", [TINY, 1.0], [0.0, 1.1], LIMIT_SHARES),
        (LimitRule, "wary_share", [TINY, 1.0], [0.0, 1.1], LIMIT_SHARES),
        (LimitRule, "wary_vain_share", [TINY, 1.0], [0.0, 1.1], LIMIT_SHARES),
        (LimitRule, "probe_spread", [0.0, 0.99], [-TINY, 1.0], LIMIT_PROBE),
        (LimitRule, "pay_share", [0.0, 1.0], [-TINY, 1.1], LIMIT_PROBE),
        (LimitRule, "hold_windows", [0], [-1], LIMIT_PROBE),
        (LimitRule, "wary_near", [0.0, 1.0], [-TINY, 1.1], LIMIT_WARY),
        (LimitRule, "wary_pushed_s", [0.0], [-TINY, nan], LIMIT_WARY),
        (LimitRule, "wary_unpaid_s", [0.0], [-TINY, nan], LIMIT_WARY),
        (PaceRule, "cut", [TINY, 0.99], [0.0, 1.0, nan], PACE),
        (PaceRule, "growth", [TINY], [0.0, nan], PACE),
        (PaceRule, "headroom", [1.01], [1.0, nan], PACE),
        (PaceRule, "least_per_s", [TINY], [0.0, nan], PACE_RATES),
        (PaceRule, "start_per_s", [TINY], [0.0, nan], PACE_RATES),
        (PaceRule, "early_s", [TINY], [0.0, nan], PACE_EARLY),
        (PaceRule, "early_min", [1], [0], PACE_EARLY),
        (PaceRule, "pay_share", [TINY, 1.0], [0.0, 1.1, nan], PACE_PAYS),
        (PaceRule, "pay_weight", [TINY, 1.0], [0.0, 1.1, nan], PACE_PAYS),
        (RateRule, "per_s", [TINY, 1e9], [0.0, -1.0, inf, nan], RATE),
        (FixedLimit, "limit", [1, LIMIT_MAX], [0, 1001], "a lane's limit must be 1 to 1000, not {}"),
        (RetryHeap, "size_max", [1], [0], "a retry heap must hold 1 item or more, not {}"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)  # fmt: skip
def test_setting_is_refused_beyond_its_edge_and_only_there(
    rule: Any, name: str, allowed: list[float], refused: list[float], words: str
) -> None:
    for value in allowed:
        rule(**{name: value})
    for value in refused:
        with pytest.raises(ConfigError) as caught:
            rule(**{name: value})
        assert str(caught.value) == words.format(value)


def test_burst_of_a_rate_is_1_or_more() -> None:
    RateRule(1.0, burst=1)
    with pytest.raises(ConfigError, match=r"\Athe burst of a rate must be 1 or more, not 0\Z"):
        RateRule(1.0, burst=0)


def test_breaker_of_the_older_programs_counts_and_nothing_else() -> None:
    """5 failures in 60 s, open for 60 s; each number can be another."""
    assert (counting_rule().window_s, counting_rule().calls_min) == (60.0, 5)
    assert (counting_rule().open_s_first, counting_rule().open_s_max) == (60.0, 60.0)
    assert counting_rule(failures=7, window_s=9.0, open_s=8.0) == BreakerRule(
        window_s=9.0,
        calls_min=7,
        failures_min=7,
        failure_share=0.0,
        slow_factor=inf,
        open_s_first=8.0,
        open_s_max=8.0,
        jitter_share=0.0,
        successes_to_close=1,
    )


def test_cap_of_one_is_a_lane_of_one() -> None:
    """The start follows the cap down to 1."""
    for lane_class in ("wms", "tile", "cdn"):
        assert (limit_rule(lane_class, cap=1).start, limit_rule(lane_class, cap=1).most) == (1, 1)
