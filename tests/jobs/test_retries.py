"""Waiting items: who may go when, who pays, what is final. No loop, no clock: time is an argument."""

import gc
import weakref
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.errors import (
    BrokenError,
    BusyError,
    ConfigError,
    DataError,
    RefusedError,
    ThrottledError,
    TilehaulError,
    UnreachableError,
)
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Item, Retries, Retrying
from tilehaul.policy.budget import BudgetRule, RetryBudget
from tilehaul.policy.retry import RetryRule
from tilehaul.ports.tile import FailedTile

A, B, C, D = (TileId(9, number, number) for number in (1, 2, 3, 4))


def retries(
    budget: RetryBudget | None = None, *, workers: int = 4, waiting_max: int = 10_000, **rule: float
) -> Retries:
    paying = budget or RetryBudget()
    retrying = Retrying(RetryRule(**rule), lambda: 0.5, lambda _tile_id: paying, waiting_max)  # type: ignore[arg-type]
    return Retries(retrying, workers=workers)


def empty_budget() -> RetryBudget:
    """One that has spent its tokens, and its floor for the second from 0.0 on."""
    budget = RetryBudget(BudgetRule(tokens_max=1.0))
    assert budget.spend(0.0)
    assert budget.spend(0.0)
    assert not budget.spend(0.0)
    return budget


def test_transient_failure_waits_with_full_jitter_and_is_due_then() -> None:
    waiting, item = retries(), Item(A)
    assert waiting.failed(item, BrokenError("x"), 100.0) is None
    assert waiting.wait_s(100.0) == 0.25  # half of the first ceiling of 0.5 s
    assert waiting.due(100.2) is None
    assert waiting.due(100.25) is item
    assert waiting.failed(item, BrokenError("x"), 200.0) is None
    assert waiting.wait_s(200.0) == 0.5
    assert (len(waiting), item.attempts) == (1, 2)


def test_attempts_end_and_the_error_says_how_many() -> None:
    waiting, item = retries(attempts_max=3), Item(A)
    for _ in range(2):
        assert waiting.failed(item, BrokenError("x"), 0.0) is None
        assert waiting.due(99.0) is item
    error = BrokenError("the last")
    assert waiting.failed(item, error, 0.0) == FailedTile(A, error, 3)
    assert error.attempts == 3
    assert len(waiting) == 0


def test_permanent_failure_is_final_at_once() -> None:
    error = RefusedError("no")
    assert retries().failed(Item(A), error, 0.0) == FailedTile(A, error, 1)


def test_wrong_type_twice_is_final() -> None:
    waiting, item = retries(), Item(A)
    for error in (DataError("html", cause="error_page"), BrokenError("x")):
        assert waiting.failed(item, error, 0.0) is None
        assert waiting.due(99.0) is item
    assert waiting.failed(item, DataError("html", cause="error_page"), 0.0) is not None
    assert item.attempts == 3


def _probe(error: BrokenError | DataError | RefusedError) -> BrokenError | DataError | RefusedError:
    error.probe = True
    return error


def test_attempts_that_tested_an_open_breaker_do_not_use_a_tile_up() -> None:
    """As many as may fail before it is used up; then they count, so that a sick last tile ends."""
    waiting, item = retries(attempts_max=3), Item(A)
    for attempt in range(1, 5):
        assert waiting.failed(item, _probe(BrokenError("x")), 0.0) is None
        assert (item.attempts, item.counted) == (attempt, max(0, attempt - 2))
        assert waiting.due(99.0) is item
    assert waiting.failed(item, _probe(BrokenError("x")), 0.0) is not None
    assert item.attempts == 5


def test_probe_of_a_job_without_retries_is_its_only_attempt() -> None:
    assert retries(attempts_max=1).failed(Item(A), _probe(BrokenError("x")), 0.0) is not None


def test_probe_that_is_refused_or_of_another_kind_twice_is_final() -> None:
    assert retries().failed(Item(A), _probe(RefusedError("no")), 0.0) is not None
    waiting, item = retries(), Item(A)
    assert waiting.failed(item, _probe(DataError("html", cause="error_page")), 0.0) is None
    assert waiting.failed(item, _probe(DataError("html", cause="error_page")), 0.0) is not None


def test_push_back_uses_no_attempt_and_no_token() -> None:
    """A hundred push-backs with one attempt allowed and nothing to pay with; each is an attempt made."""
    waiting, item = retries(empty_budget(), attempts_max=1), Item(A)
    for number in range(100):
        assert waiting.failed(item, ThrottledError("slow", retry_after_s=2.0), 10.0 * number) is None
        assert waiting.due(10.0 * number + 1.9) is None
        assert waiting.due(10.0 * number + 2.0) is item
    assert (item.attempts, item.counted) == (100, 0)


def test_push_back_is_given_up_after_the_patience_counted_from_its_first() -> None:
    waiting, item = retries(wait_s_max=60.0), Item(A)
    for now_s in (0.0, 30.0, 49.0):
        assert waiting.failed(item, ThrottledError("slow", retry_after_s=10.0), now_s) is None
        assert waiting.due(now_s + 10.0) is item
    failed = waiting.failed(item, ThrottledError("slow", retry_after_s=10.0), 59.0)
    assert failed is not None
    assert failed.attempts == 4


def test_patience_begins_anew_after_another_failure() -> None:
    """Waiting for the budget or for its turn is no push-back: it does not use the patience up."""
    waiting, item = retries(wait_s_max=60.0), Item(A)
    for now_s, error in (
        (0.0, ThrottledError("slow")),
        (50.0, BrokenError("x")),
        (5000.0, ThrottledError("slow")),
        (5050.0, ThrottledError("slow")),
    ):
        assert waiting.failed(item, error, now_s) is None
        assert waiting.due(now_s + 1.0) is item
    assert waiting.failed(item, ThrottledError("slow"), 5060.0) is not None


def test_push_back_without_a_wait_is_no_invitation_to_ask_in_a_circle() -> None:
    waiting, item = retries(), Item(A)
    assert waiting.failed(item, ThrottledError("slow", retry_after_s=0.0), 7.0) is None
    assert waiting.due(7.0) is None


def test_item_that_cannot_pay_waits_on_and_is_not_lost() -> None:
    """Ten items due, nothing in the budget: one a second, in the order in which they came due."""
    waiting = retries(empty_budget(), wait_s_max=1.0)
    items = [Item(TileId(9, n, 0)) for n in range(10)]
    for item in items:
        assert waiting.failed(item, BrokenError("x"), 0.0) is None
    came = []
    now_s = 1.0
    while len(waiting):
        item = waiting.due(now_s)
        if item is not None:
            came.append((now_s, item))
        else:
            wait_s = waiting.wait_s(now_s)
            assert wait_s is not None
            assert wait_s > 0.0
            now_s += wait_s
    assert [item for _, item in came] == items
    assert [now_s for now_s, _ in came] == pytest.approx([1.0 + n for n in range(10)])


def test_success_elsewhere_in_the_lane_lets_the_next_one_go() -> None:
    budget = empty_budget()
    waiting, item = retries(budget), Item(A)
    assert waiting.failed(item, BrokenError("x"), 0.0) is None
    assert waiting.due(0.5) is None
    for _ in range(11):  # a tenth of a token each
        budget.on_success()
    assert waiting.due(0.5) is item


def test_only_a_retry_that_was_paid_for_is_paid_back() -> None:
    budget = RetryBudget()
    assert budget.spend(0.0)
    waiting = retries(budget)
    paid, pushed = Item(A), Item(B)
    assert waiting.failed(paid, BrokenError("x"), 0.0) is None
    assert waiting.failed(pushed, ThrottledError("slow"), 0.0) is None
    assert waiting.due(1.0) is pushed
    waiting.came(pushed)
    assert budget.tokens == 99.0
    assert waiting.due(1.0) is paid
    assert budget.tokens == 98.0
    waiting.came(paid)
    assert budget.tokens == 99.0


def test_pushed_back_item_passes_those_that_cannot_pay() -> None:
    waiting = retries(empty_budget())
    poor, pushed = Item(A), Item(B)
    assert waiting.failed(poor, BrokenError("x"), 0.0) is None
    assert waiting.failed(pushed, ThrottledError("slow", retry_after_s=0.4), 0.0) is None
    assert waiting.due(0.5) is pushed
    assert waiting.due(0.5) is None


def test_lane_that_cannot_pay_does_not_hold_up_another() -> None:
    rich, poor = RetryBudget(), empty_budget()
    retrying = Retrying(RetryRule(), lambda: 0.5, lambda tile_id: poor if tile_id == A else rich)
    waiting = Retries(retrying, workers=1)
    first, second = Item(A), Item(B)
    assert waiting.failed(first, BrokenError("x"), 0.0) is None
    assert waiting.failed(second, BrokenError("x"), 0.0) is None
    assert waiting.due(0.5) is second
    assert waiting.due(0.5) is None
    assert waiting.due(1.0) is first


def test_full_heap_keeps_room_for_what_every_worker_may_bring_back() -> None:
    waiting = retries(workers=3, waiting_max=10)
    for n in range(7):
        assert not waiting.hold_new_work
        assert waiting.failed(Item(TileId(9, n, 0)), BrokenError("x"), 0.0) is None
        waiting.came(Item(B))
    assert not waiting.hold_new_work
    assert waiting.failed(Item(A), BrokenError("x"), 0.0) is None
    waiting.came(Item(B))
    assert waiting.hold_new_work
    for _ in range(2):
        assert waiting.failed(Item(A), BrokenError("x"), 0.0) is None
    assert len(waiting) == 10
    assert waiting.due(1.0) is not None


def test_nothing_new_is_begun_while_everything_fails() -> None:
    """As many failures in a row as there are workers; an answer of any kind, a refusal too, ends that."""
    waiting = retries(workers=3)
    for n in range(3):
        assert not waiting.hold_new_work
        assert waiting.failed(Item(TileId(9, n, 0)), BrokenError("x"), 0.0) is None
    assert waiting.hold_new_work
    waiting.came(Item(B))
    assert not waiting.hold_new_work
    for n in range(3):
        assert waiting.failed(Item(TileId(9, n, 1)), BrokenError("x"), 0.0) is None
    assert waiting.failed(Item(B), RefusedError("no"), 0.0) is not None
    assert not waiting.hold_new_work


def test_push_back_is_the_gate_s_and_holds_no_new_work() -> None:
    waiting = retries(workers=2)
    for n in range(9):
        assert waiting.failed(Item(TileId(9, n, 0)), ThrottledError("slow"), 0.0) is None
    assert not waiting.hold_new_work


def test_new_work_is_begun_when_nothing_waits_any_more() -> None:
    """Nobody else could find out whether the upstream is well again."""
    waiting, item = retries(workers=1, attempts_max=2), Item(A)
    assert waiting.failed(item, BrokenError("x"), 0.0) is None
    assert waiting.due(9.0) is item
    assert waiting.failed(item, BrokenError("x"), 9.0) is not None
    assert not waiting.hold_new_work


def test_more_workers_than_may_wait_are_refused() -> None:
    with pytest.raises(ConfigError, match="10 workers"):
        retries(workers=10, waiting_max=10)


def test_what_was_not_sent_waits_and_is_no_attempt() -> None:
    """BusyError names when to come back; what was paid for the retry is given back."""
    budget = RetryBudget()
    waiting, item = retries(budget=budget), Item(A)
    assert waiting.failed(item, UnreachableError("refused", cause="connect"), 0.0) is None
    assert waiting.due(9.0) is item
    paid = budget.tokens
    assert waiting.failed(item, BusyError("held", retry_after_s=20.0), 9.0) is None
    assert (item.attempts, budget.tokens) == (1, paid + 1.0)
    assert waiting.due(28.9) is None
    assert waiting.due(29.1) is item


def test_new_work_stops_while_every_lane_hands_back() -> None:
    waiting = retries(workers=3)
    for tile_id in (A, B, C):
        assert not waiting.hold_new_work
        assert waiting.failed(Item(tile_id), BusyError("held", retry_after_s=20.0), 0.0) is None
    assert waiting.hold_new_work
    waiting.came(Item(D))
    assert not waiting.hold_new_work


def test_an_upstream_that_has_never_answered_is_told_of_at_once() -> None:
    """No attempt was made: the number says so."""
    busy = BusyError("left alone", never_answered=True)
    assert retries().failed(Item(B), busy, 9.0) == FailedTile(B, busy, 0)


def test_source_that_tries_again_itself_has_the_last_word() -> None:
    waiting = Retries(None, workers=4)
    error = BrokenError("x", attempts=6)
    assert waiting.failed(Item(A), error, 0.0) == FailedTile(A, error, 6)
    assert waiting.due(9.0) is None
    assert waiting.wait_s(9.0) is None


def test_waiting_item_keeps_no_frame_and_no_body_alive() -> None:
    class Body:
        pass

    alive: list[weakref.ref[Body]] = []

    def attempt() -> None:
        body = Body()
        alive.append(weakref.ref(body))
        try:
            raise ValueError
        except ValueError as error:
            raise DataError("cut", cause="truncated") from error

    waiting = retries()
    try:
        attempt()
    except DataError as error:
        waiting.failed(Item(A), error, 0.0)
    gc.collect()
    assert alive[0]() is None
    assert len(waiting) == 1


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["broken", "pushed", "good", "refused"]), st.floats(0.0, 3.0)), max_size=120
    ),
    tokens=st.floats(1.0, 5.0),
)
def test_every_item_ends_once_and_every_retry_is_paid(steps: list[tuple[str, float]], tokens: float) -> None:
    """Against a count: due ones + waiting ones + ended ones are all there are, and spends equal retries."""
    budget = RetryBudget(BudgetRule(tokens_max=tokens))
    waiting = retries(budget, attempts_max=3, wait_s_max=5.0)
    made, ended, now_s, paid, free = 0, Counter[TileId](), 0.0, 0, 0
    spend = budget.spend
    spent: list[float] = []
    errors: dict[str, type[TilehaulError]] = {"broken": BrokenError, "pushed": ThrottledError}

    class Counting(RetryBudget):
        def spend(self, now_s: float) -> bool:
            if spend(now_s):
                spent.append(now_s)
                return True
            return False

        def wait_s(self, now_s: float) -> float:
            return budget.wait_s(now_s)

    counting = Counting()
    waiting._retrying = Retrying(RetryRule(3, wait_s_max=5.0), lambda: 0.5, lambda _: counting)
    for kind, passing_s in steps:
        now_s += passing_s
        item = waiting.due(now_s)
        if item is None:
            made += 1
            item = Item(TileId(20, made, 0))
        elif item.pushed_back_s is None:
            paid += 1
        else:
            free += 1
        if kind == "good":
            budget.on_success()
            ended[item.tile_id] += 1
            continue
        error = errors.get(kind, RefusedError)("x")
        if waiting.failed(item, error, now_s) is not None:  # type: ignore[arg-type]
            ended[item.tile_id] += 1
        assert len(waiting) + ended.total() == made
        assert len(spent) == paid
    while len(waiting):
        wait_s = waiting.wait_s(now_s)
        assert wait_s is not None
        now_s += wait_s
        item = waiting.due(now_s)
        if item is not None:
            ended[item.tile_id] += 1
    assert ended == Counter({TileId(20, n, 0): 1 for n in range(1, made + 1)})
