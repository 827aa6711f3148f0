"""Healthy or degraded: every reason alone, and none where there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.errors import ConfigError
from tilehaul.policy.health import Health, HealthRule, judge_health
from tilehaul.policy.lane_stats import LaneFigures
from tilehaul.ports.lane import LaneSnapshot


def lane(name: str = "a.test (tile)", **values: object) -> LaneSnapshot:
    return LaneSnapshot(name, "tile", 8, **values)  # type: ignore[arg-type]


def figures(answered: int, failed: int, **causes: int) -> LaneFigures:
    share = failed / (answered + failed)
    return LaneFigures(answered=answered, failed=failed, failure_share=share, causes=causes)  # type: ignore[arg-type]


def test_nothing_known_is_healthy() -> None:
    assert judge_health([]) == Health("healthy")
    assert judge_health([lane()]) == Health("healthy")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"breaker": "open", "breaker_since_s": 12.0, "breaker_wait_s": 2.5},
            "breaker open since 12 s, tried again in 3 s",
        ),
        (
            {"breaker": "half_open", "breaker_since_s": 200.0},
            "breaker half open, one attempt at a time; open since 4 min",
        ),
        ({"gate": "parked", "gate_wait_s": 7200.0, "gate_reason": "parked, as said"}, "parked, as said"),
        ({"gate": "held", "gate_wait_s": 61.0}, "asked to wait, 61 s to go"),
        (
            {"recent": figures(66, 34, server=30, timeout=4)},
            "34 % failures over 5 min (34 of 100, most of them server)",
        ),
        (
            {"recent": figures(94, 6, timeout=6, rate_limit=900)},
            "6.0 % failures over 5 min (6 of 100, most of them timeout)",
        ),
        ({"budget_left": 0.9}, "the retry budget is spent"),
    ],
)
def test_each_trouble_has_its_words(values: dict, reason: str) -> None:
    assert judge_health([lane(**values)]) == Health("degraded", (f"a.test (tile): {reason}",))


@pytest.mark.parametrize(
    "values",
    [
        {"gate": "held", "gate_wait_s": 60.0},
        {"recent": figures(95, 5, server=5)},
        {"recent": figures(10, 9, server=9)},
        {"budget_left": 1.0},
        {"recent": LaneFigures(answered=20, causes={"rate_limit": 4000})},
        {"queue_depth": 10_000, "in_flight": 8, "pace_per_s": 0.2},
    ],
)
def test_what_is_no_trouble(values: dict) -> None:
    """A short hold, few failures, too few attempts, push-back, a queue: that is work, not illness."""
    assert judge_health([lane(**values)]) == Health("healthy")


def test_all_reasons_of_all_lanes_are_told_in_order() -> None:
    ill = lane("b", breaker="open", recent=figures(0, 20, network=20), budget_left=0.0)
    told = judge_health([lane("a"), ill, lane("c", budget_left=0.5)])
    assert told.status == "degraded"
    assert [reason.partition(":")[0] for reason in told.reasons] == ["b", "b", "b", "c"]


def test_rule_moves_the_bounds() -> None:
    strict = HealthRule(failure_share=0.0, ended_min=1, held_s=0.0)
    assert judge_health([lane(recent=figures(1, 1, other=1))], strict).status == "degraded"
    assert judge_health([lane(gate="held", gate_wait_s=0.1)], strict).status == "degraded"
    lax = HealthRule(failure_share=0.5)
    assert judge_health([lane(recent=figures(66, 34, server=34))], lax) == Health("healthy")


@pytest.mark.parametrize(
    "values", [{"failure_share": -0.1}, {"failure_share": 1.0}, {"ended_min": 0}, {"held_s": -1.0}]
)
def test_rule_out_of_range_is_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="health"):
        HealthRule(**values)


@given(st.integers(0, 200), st.integers(0, 200))
def test_failure_share_is_judged_as_written(answered: int, failed: int) -> None:
    """Degraded exactly when enough attempts ended and more than the share of them failed."""
    share = failed / (answered + failed) if answered + failed else 0.0
    recent = LaneFigures(
        answered=answered, failed=failed, failure_share=share, causes={"server": failed} if failed else {}
    )
    expected = answered + failed >= 20 and failed > 0.05 * (answered + failed)
    assert (judge_health([lane(recent=recent)]).status == "degraded") is expected


def test_shares_are_rounded_like_people_do() -> None:
    """One decimal below a tenth, none from there on; what failed without a cause is named other."""
    rule = HealthRule(failure_share=0.0)
    [reason] = judge_health([lane(recent=figures(90, 10, server=10))], rule).reasons
    assert reason.endswith("10 % failures over 5 min (10 of 100, most of them server)")
    [reason] = judge_health([lane(recent=figures(0, 50, server=50))], rule).reasons
    assert "100 % failures" in reason
    [reason] = judge_health([lane(recent=figures(96, 4))], rule).reasons
    assert reason.endswith("4.0 % failures over 5 min (4 of 100, most of them other)")
