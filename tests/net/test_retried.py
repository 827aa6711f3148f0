"""Retries: how many requests, how long the waits, what is left alone."""

import pytest

from doubles.clock import VirtualClock, in_virtual_time
from doubles.wire import ScriptedWire, answer
from tilehaul.errors import BrokenError, DataError, RefusedError, ThrottledError, UnreachableError
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.correlation import AT_HAND
from tilehaul.ports.wire import Request

A = Request("http://a.test/1/2/3.png")


def retried(wire: ScriptedWire, clock: VirtualClock, tally: Tally | None = None, **rule: float):
    tally = tally or Tally()
    lane = LanedSender(wire, LaneSettings(4), clock=clock, luck=lambda: 0.5, tally=tally)
    return RetriedSender(lane, RetryRule(**rule), clock, lambda: 0.5, tally)  # type: ignore[arg-type]


async def test_transient_failures_are_retried_with_growing_waits() -> None:
    clock = VirtualClock()
    wire = ScriptedWire(steps=[BrokenError("x"), UnreachableError("x"), DataError("x", cause="truncated")])
    response = await in_virtual_time(clock, retried(wire, clock).send(A))
    assert response == answer()
    assert clock.slept == [0.25, 0.5, 1.0]
    assert len(wire.requests) == 4


async def test_attempts_end_and_the_error_says_how_many() -> None:
    clock = VirtualClock()
    wire = ScriptedWire(then=BrokenError("x"))
    with pytest.raises(BrokenError) as caught:
        await in_virtual_time(clock, retried(wire, clock, attempts_max=6).send(A))
    assert caught.value.attempts == len(wire.requests) == 6


async def test_nothing_is_repeated_while_a_stale_answer_is_at_hand() -> None:
    """Neither a failure nor push-back keeps anybody waiting who could be answered now."""
    for error in (BrokenError("x"), ThrottledError("x", retry_after_s=1.0)):
        clock = VirtualClock()
        wire = ScriptedWire(then=error)
        told = AT_HAND.set(True)
        try:
            with pytest.raises(type(error)):
                await in_virtual_time(clock, retried(wire, clock, attempts_max=6).send(A))
        finally:
            AT_HAND.reset(told)
        assert (len(wire.requests), clock.slept) == (1, [])


async def test_permanent_failure_is_sent_once() -> None:
    clock = VirtualClock()
    wire = ScriptedWire(then=RefusedError("x"))
    with pytest.raises(RefusedError):
        await in_virtual_time(clock, retried(wire, clock).send(A))
    assert len(wire.requests) == 1
    assert clock.slept == []


async def test_one_wrong_type_among_other_failures_does_not_end_it() -> None:
    """500, an error page, 500, then the tile: only a second error page would have been the end."""
    clock = VirtualClock()
    page = DataError("html", cause="error_page")
    wire = ScriptedWire(steps=[BrokenError("x"), page, BrokenError("x")])
    await in_virtual_time(clock, retried(wire, clock).send(A))
    assert len(wire.requests) == 4
    wire = ScriptedWire(steps=[page, BrokenError("x"), page])
    with pytest.raises(DataError):
        await in_virtual_time(clock, retried(wire, clock).send(A))
    assert len(wire.requests) == 3


async def test_retry_after_of_zero_is_no_invitation_to_hammer() -> None:
    """ "Come back at once" from one who pushes back: the waits grow as if nothing had been asked."""
    clock = VirtualClock()
    wire = ScriptedWire(then=lambda _request: ThrottledError("x", retry_after_s=0.0))
    with pytest.raises(ThrottledError):
        await in_virtual_time(clock, retried(wire, clock, wait_s_max=600.0).send(A))
    assert len(wire.requests) < 20


async def test_push_back_costs_no_attempt() -> None:
    """Twenty push-backs, then a tile, with one attempt allowed."""
    clock = VirtualClock()
    tally = Tally()
    wire = ScriptedWire(steps=[ThrottledError("x", retry_after_s=1.0) for _ in range(20)])
    await in_virtual_time(clock, retried(wire, clock, tally, attempts_max=1).send(A))
    assert len(wire.requests) == 21
    assert tally.pushed_back == 20
    assert tally.push_back_s == pytest.approx(20 * 1.05)
    assert clock.now_s() - 1000 == pytest.approx(20 * 1.05)


async def test_push_back_without_end_is_given_up_after_the_patience() -> None:
    clock = VirtualClock()
    wire = ScriptedWire(then=lambda _request: ThrottledError("x", retry_after_s=60.0))
    with pytest.raises(ThrottledError):
        await in_virtual_time(clock, retried(wire, clock, wait_s_max=600.0).send(A))
    assert 540 < clock.now_s() - 1000 <= 600
    assert len(wire.requests) <= 10


async def test_wait_longer_than_the_patience_is_not_begun() -> None:
    """An upstream that asks for a day is told to the caller at once."""
    clock = VirtualClock()
    wire = ScriptedWire(then=ThrottledError("x", retry_after_s=86_400.0))
    with pytest.raises(ThrottledError):
        await in_virtual_time(clock, retried(wire, clock).send(A))
    assert len(wire.requests) == 1
    assert clock.slept == []


async def test_retry_that_succeeds_costs_the_lane_nothing_and_one_that_fails_a_token() -> None:
    clock = VirtualClock()
    wire = ScriptedWire(steps=[BrokenError("x"), BrokenError("x")])
    sender = retried(wire, clock)
    budget = sender.inner.budget_of(A)
    full = budget.tokens
    await in_virtual_time(clock, sender.send(A))
    assert len(wire.requests) == 3
    # Two were paid, one came back; the success itself gave its tenth.
    assert budget.tokens == pytest.approx(full - 1.0 + 0.1)
    wire.steps = [ThrottledError("x", retry_after_s=1.0)]
    await in_virtual_time(clock, sender.send(A))
    assert budget.tokens == pytest.approx(full - 1.0 + 0.2)
