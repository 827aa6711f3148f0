"""The retry budget and the rate, each against a simple model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tilehaul.errors import ConfigError
from tilehaul.policy.budget import BudgetRule, RetryBudget
from tilehaul.policy.rate import Rate, RateRule


def test_full_budget_pays_a_hundred_retries_at_once_and_the_floor_one_more() -> None:
    budget = RetryBudget()
    assert [budget.spend(5.0) for _ in range(102)] == [True] * 101 + [False]
    assert budget.wait_s(5.25) == 0.75
    assert not budget.spend(5.99)
    assert budget.spend(6.0)
    assert not budget.spend(6.5)


def test_ten_successes_pay_one_retry() -> None:
    budget = RetryBudget(BudgetRule(tokens_max=1.0, floor_per_s=0.001))
    assert [budget.spend(0.0) for _ in range(3)] == [True, True, False]
    for _ in range(9):
        budget.on_success()
    assert not budget.spend(1.0)
    for _ in range(2):
        budget.on_success()
    assert budget.wait_s(1.0) == 0.0
    assert budget.spend(1.0)
    assert not budget.spend(1.0)


def test_retry_that_succeeds_gives_its_token_back() -> None:
    budget = RetryBudget(BudgetRule(tokens_max=2.0, per_success=0.25))
    for _ in range(100):
        assert budget.spend(1.0)
        budget.refund()
    assert budget.tokens == 2.0
    assert budget.spend(1.0)
    assert budget.spend(1.0)
    budget.refund()
    budget.on_success()
    assert budget.tokens == 1.25


def test_budget_is_never_more_than_full() -> None:
    budget = RetryBudget(BudgetRule(tokens_max=2.0))
    for _ in range(100):
        budget.on_success()
    assert budget.tokens == 2.0


def test_floor_of_another_rate() -> None:
    budget = RetryBudget(BudgetRule(tokens_max=1.0, floor_per_s=4.0))
    assert [budget.spend(1.0) for _ in range(3)] == [True, True, False]
    assert budget.wait_s(1.0) == 0.25
    assert budget.wait_s(9.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [{"tokens_max": 0.9}, {"per_success": -0.1}, {"floor_per_s": 0.0}, {"tokens_max": float("nan")}],
)
def test_wrong_budget_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        BudgetRule(**wrong)


def test_budget_without_return_is_allowed() -> None:
    assert BudgetRule(tokens_max=1.0, per_success=0.0).per_success == 0.0


class BudgetMachine(RuleBasedStateMachine):
    """What was paid never exceeds the start, what came back, and the floor's."""

    def __init__(self) -> None:
        super().__init__()
        self.rule = BudgetRule(tokens_max=5.0, per_success=0.25, floor_per_s=2.0)
        self.budget = RetryBudget(self.rule)
        self.now_s = 0.0
        self.tokens = 5.0
        self.floor_s = 0.0

    @rule(passed=st.integers(0, 8))
    def wait(self, passed: int) -> None:
        self.now_s += passed / 8

    @rule(count=st.integers(1, 8))
    def succeed(self, count: int) -> None:
        for _ in range(count):
            self.budget.on_success()
            self.tokens = min(5.0, self.tokens + 0.25)

    @rule(count=st.integers(1, 4))
    def refund(self, count: int) -> None:
        for _ in range(count):
            self.budget.refund()
            self.tokens = min(5.0, self.tokens + 1.0)

    @rule(count=st.integers(1, 6))
    def retry(self, count: int) -> None:
        for _ in range(count):
            wait_s = self.budget.wait_s(self.now_s)
            paid = self.budget.spend(self.now_s)
            assert paid == (wait_s == 0.0)
            if self.tokens >= 1.0:
                self.tokens -= 1.0
                assert paid
            elif self.now_s >= self.floor_s:
                self.floor_s = self.now_s + 0.5
                assert paid
            else:
                assert not paid
                assert wait_s == self.floor_s - self.now_s

    @invariant()
    def same_tokens(self) -> None:
        assert self.budget.tokens == self.tokens


BudgetMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestBudgetMachine = BudgetMachine.TestCase


def test_rate_of_one_in_five_seconds() -> None:
    rate = Rate(RateRule(per_s=0.2))
    assert rate.wait_s(0.0) == 0.0
    assert rate.take(0.0)
    assert not rate.take(4.9)
    assert rate.wait_s(1.0) == pytest.approx(4.0)
    assert rate.take(5.0)


def test_burst_after_a_rest_then_the_rate() -> None:
    rate = Rate(RateRule(per_s=10.0, burst=3))
    assert [rate.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert rate.wait_s(100.0) == pytest.approx(0.1)
    assert [rate.take(100.1) for _ in range(2)] == [True, False]
    assert [rate.take(200.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("per_s", "burst"), [(0.0, 1), (-1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, 0)]
)
def test_wrong_rate_is_refused(per_s: float, burst: int) -> None:
    with pytest.raises(ConfigError):
        RateRule(per_s=per_s, burst=burst)


@given(
    per_s=st.floats(0.1, 50.0),
    burst=st.integers(1, 5),
    steps_s=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=60),
)
def test_no_interval_holds_more_than_burst_and_rate(per_s: float, burst: int, steps_s: list[float]) -> None:
    """... and whoever has waited as told is let through."""
    rate = Rate(RateRule(per_s=per_s, burst=burst))
    now_s = 1000.0
    taken_s = []
    for step_s in steps_s:
        now_s += step_s
        wait_s = rate.wait_s(now_s)
        if rate.take(now_s):
            assert wait_s == 0.0
        else:
            assert wait_s > 0.0
            now_s += wait_s
            assert rate.take(now_s)
        taken_s.append(now_s)
    for first, start_s in enumerate(taken_s):
        for last in range(first, len(taken_s)):
            assert last - first + 1 <= burst + (taken_s[last] - start_s) * per_s + 1e-3
