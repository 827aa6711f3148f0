"""The older fetcher's limiter, breaker, settings and health, in virtual time."""

import asyncio
from itertools import pairwise

import pytest

import tilehaul
from doubles.clock import VirtualClock, in_virtual_time
from tilehaul.compat.fetcher import AdaptiveRateLimiter, CircuitBreaker, TileFetcherConfig, TileServiceHealth


async def test_rate_is_kept_however_many_ask() -> None:
    """The older one let each caller wait for itself: ten callers sent ten times the rate."""
    clock = VirtualClock()
    limiter = AdaptiveRateLimiter(initial_rate=10.0, clock=clock)
    sent_s: list[float] = []

    async def ask() -> None:
        await limiter.acquire()
        sent_s.append(clock.now_s())

    async def many() -> None:
        await asyncio.gather(*(ask() for _ in range(30)))

    await in_virtual_time(clock, many())
    gaps = [later - earlier for earlier, later in pairwise(sent_s)]
    assert gaps == pytest.approx([0.1] * 29)


async def test_cut_holds_for_those_who_wait_already() -> None:
    clock = VirtualClock()
    limiter = AdaptiveRateLimiter(10.0, clock=clock)

    async def run() -> float:
        await limiter.acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        limiter.on_error("rate_limit")
        begun_s = clock.now_s()
        await waiting
        return clock.now_s() - begun_s

    assert await in_virtual_time(clock, run()) == pytest.approx(0.2)


async def test_newcomer_does_not_overtake_who_waits() -> None:
    clock = VirtualClock()
    limiter = AdaptiveRateLimiter(10.0, clock=clock)
    order: list[int] = []

    async def ask(number: int) -> None:
        await limiter.acquire()
        order.append(number)

    async def run() -> None:
        await ask(1)
        waiting = asyncio.create_task(ask(2))
        await asyncio.sleep(0)
        clock._now_s += 0.15
        await asyncio.gather(waiting, ask(3))

    await in_virtual_time(clock, run())
    assert order == [1, 2, 3]


async def test_cancelled_waiter_holds_nobody_up() -> None:
    clock = VirtualClock()
    limiter = AdaptiveRateLimiter(1.0, clock=clock)

    async def run() -> float:
        await limiter.acquire()
        gone = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        gone.cancel()
        begun_s = clock.now_s()
        await limiter.acquire()
        return clock.now_s() - begun_s

    assert await in_virtual_time(clock, run()) == pytest.approx(1.0)


def test_rate_moves_by_the_old_numbers_within_bounds() -> None:
    limiter = AdaptiveRateLimiter()
    for _ in range(10):
        limiter.on_success()
    assert limiter.current_rate == 10.0
    limiter.on_success()
    assert limiter.current_rate == pytest.approx(11.0)
    assert limiter.success_count == 0
    limiter.on_error("timeout")
    assert limiter.current_rate == pytest.approx(11.0)
    limiter.on_error("rate_limit")
    assert limiter.current_rate == pytest.approx(5.5)
    assert limiter.error_count == 2
    for _ in range(100):
        limiter.on_error("rate_limit")
    assert limiter.current_rate == 0.1
    for _ in range(5000):
        limiter.on_success()
    assert limiter.current_rate == 1000.0


@pytest.mark.parametrize("rate", [0, -1, 1001, float("nan")])
def test_rate_out_of_bounds_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="initial_rate"):
        AdaptiveRateLimiter(rate)


class Flaky:
    """An async function that fails as it is told and counts its calls."""

    def __init__(self) -> None:
        self.error: BaseException | None = OSError("down")
        self.calls = 0

    async def __call__(self, value: int = 0, *, more: int = 0) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return value + more


async def _fail(breaker: CircuitBreaker, flaky: Flaky, times: int) -> None:
    for _ in range(times):
        with pytest.raises(type(flaky.error)):
            await breaker.call(flaky)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_breaker_opens_at_the_fifth_failure_and_closes_at_a_good_probe(clock: VirtualClock) -> None:
    breaker, flaky = CircuitBreaker(clock=clock), Flaky()
    assert (breaker.failure_threshold, breaker.timeout) == (5, 60.0)
    await _fail(breaker, flaky, 4)
    assert breaker.state == "CLOSED"
    await _fail(breaker, flaky, 1)
    assert breaker.state == "OPEN"
    with pytest.raises(tilehaul.BusyError, match="Circuit breaker is OPEN: come back in 60 s") as caught:
        await breaker.call(flaky)
    assert caught.value.retry_after_s == pytest.approx(60.0)
    assert flaky.calls == 5
    clock._now_s += 60.0
    assert breaker.state == "HALF_OPEN"
    flaky.error = None
    assert await breaker.call(flaky, 40, more=2) == 42
    assert breaker.state == "CLOSED"


async def test_breaker_lets_one_probe_through_and_opens_again_when_it_fails(clock: VirtualClock) -> None:
    breaker, flaky = CircuitBreaker(failure_threshold=1, timeout=10.0, clock=clock), Flaky()
    await _fail(breaker, flaky, 1)
    clock._now_s += 10.0
    outcomes = await asyncio.gather(*(breaker.call(flaky) for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError] + [tilehaul.BusyError] * 4
    assert {str(error) for error in outcomes[1:]} == {
        "Circuit breaker is HALF_OPEN: a trial call is under way"
    }
    assert flaky.calls == 2
    assert breaker.state == "OPEN"
    assert await _waits_s(breaker, flaky) == pytest.approx(10.0)


async def _waits_s(breaker: CircuitBreaker, flaky: Flaky) -> float:
    with pytest.raises(tilehaul.BusyError) as caught:
        await breaker.call(flaky)
    return caught.value.retry_after_s


async def test_failures_older_than_the_window_do_not_count(clock: VirtualClock) -> None:
    breaker, flaky = CircuitBreaker(clock=clock), Flaky()
    await _fail(breaker, flaky, 4)
    clock._now_s += 61.0
    await _fail(breaker, flaky, 4)
    assert breaker.state == "CLOSED"


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        tilehaul.ThrottledError("slow down"),
        tilehaul.RefusedError("no such thing"),
        tilehaul.DeniedError("not for you"),
        tilehaul.BusyError("full"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_says_nothing_of_the_other_side_does_not_open(clock: VirtualClock, error) -> None:
    breaker, flaky = CircuitBreaker(failure_threshold=1, clock=clock), Flaky()
    flaky.error = error
    await _fail(breaker, flaky, 3)
    assert breaker.state == "CLOSED"


async def test_cancelled_probe_does_not_wedge(clock: VirtualClock) -> None:
    breaker, flaky = CircuitBreaker(failure_threshold=1, timeout=10.0, clock=clock), Flaky()
    await _fail(breaker, flaky, 1)
    clock._now_s += 10.0
    flaky.error = asyncio.CancelledError()
    await _fail(breaker, flaky, 1)
    flaky.error = None
    assert await breaker.call(flaky) == 0
    assert breaker.state == "CLOSED"


@pytest.mark.parametrize("options", [{"failure_threshold": 0}, {"timeout": 0}, {"timeout": float("inf")}])
def test_breaker_numbers_out_of_range_are_refused(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        CircuitBreaker(**options)


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("MAX_CONCURRENCY", "TIMEOUT_SECONDS", "RETRIES", "TILE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_settings_have_the_old_defaults_and_no_server(no_variables: pytest.MonkeyPatch) -> None:
    assert TileFetcherConfig() == TileFetcherConfig(10, 10.0, 2, "")
    with pytest.raises(ValueError, match="TILE_BASE_URL"):
        _ = TileFetcherConfig().template


def test_settings_come_from_the_environment_or_the_caller(no_variables: pytest.MonkeyPatch) -> None:
    no_variables.setenv("TILE_BASE_URL", "https://your-tile-server.example")
    no_variables.setenv("MAX_CONCURRENCY", "50")
    no_variables.setenv("TIMEOUT_SECONDS", "15")
    no_variables.setenv("RETRIES", "3")
    config = TileFetcherConfig()
    assert config == TileFetcherConfig(50, 15.0, 3, "https://your-tile-server.example")
    assert config.template == "https://your-tile-server.example/{z}/{x}/{y}.png"
    assert TileFetcherConfig(max_concurrency=7).max_concurrency == 7


@pytest.mark.parametrize(
    ("options", "variables", "says"),
    [
        ({"max_concurrency": 0}, {}, "max_concurrency"),
        ({"timeout_seconds": 0}, {}, "timeout"),
        ({"retries": -1}, {}, "retries"),
        ({"base_url": "http://h/{z}/{x}/{zoom_level}"}, {}, "base_url"),
        ({}, {"MAX_CONCURRENCY": "0"}, "MAX_CONCURRENCY=0"),
        ({}, {"TIMEOUT_SECONDS": "soon"}, "TIMEOUT_SECONDS=soon"),
        ({}, {"RETRIES": "-1"}, "RETRIES=-1"),
    ],
)
def test_settings_that_are_nonsense_are_refused(no_variables, options, variables, says) -> None:
    for name, value in variables.items():
        no_variables.setenv(name, value)
    with pytest.raises(ValueError, match=says):
        TileFetcherConfig(**options)


async def test_health_counts_and_judges(clock: VirtualClock) -> None:
    health = TileServiceHealth(now_s=clock.now_s)
    fresh = await health.health_check()
    assert fresh == {
        "status": "healthy",
        "uptime_seconds": 0.0,
        "stats": {
            "requests_total": 0,
            "requests_successful": 0,
            "requests_failed": 0,
            "avg_latency_ms": 0.0,
            "current_concurrency": 0,
        },
    }
    for latency_s in (0.1, 0.3):
        with health.request():
            assert health.stats["current_concurrency"] == 1
            clock._now_s += latency_s
    with pytest.raises(asyncio.CancelledError), health.request():
        raise asyncio.CancelledError
    checked = await health.health_check()
    assert checked["uptime_seconds"] == pytest.approx(0.4)
    assert checked["stats"] == {
        "requests_total": 2,
        "requests_successful": 2,
        "requests_failed": 0,
        "avg_latency_ms": pytest.approx(200.0),
        "current_concurrency": 0,
    }


@pytest.mark.parametrize(
    ("good", "bad", "status"), [(96, 4, "healthy"), (95, 5, "degraded"), (0, 1, "degraded")]
)
async def test_healthy_is_above_95_percent(good: int, bad: int, status: str) -> None:
    health = TileServiceHealth()
    for _ in range(good):
        with health.request():
            pass
    for _ in range(bad):
        with pytest.raises(OSError), health.request():
            raise OSError
    assert (await health.health_check())["status"] == status
