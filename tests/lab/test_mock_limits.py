"""The mock server on the wire: delays, limits, push-back and their counters."""

import asyncio
from email.utils import parsedate_to_datetime

import pytest
from mock_client import Hands, raw

from tilehaul.errors import ConfigError
from tilehaul.lab.faults import Bursts, Capacity, Faults, Latency, RateLimit, RetryAfter
from tilehaul.lab.mock import MockServer, MockSettings
from tilehaul.lab.script import parse_script

NOON_S = 1_700_000_000.0


async def test_latency_delays_the_answer():
    """An answer that should take 30 ms takes them, whatever it is."""
    async with MockServer(MockSettings(faults=Faults(latency=Latency(30), errors={500: 0.5}))) as server:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        await asyncio.gather(*(raw(server, f"/4/{x}/0.png") for x in range(10)))
        assert loop.time() - begun_s >= 0.029
        assert sum(server.stats().by_status.values()) == 10
        assert set(server.stats().by_status) == {200, 500}


async def test_requests_in_flight_are_counted_until_the_client_leaves():
    """Ten who wait are ten at the peak; when they go they are abandoned, and nobody waits any more."""
    async with MockServer(MockSettings(faults=Faults(latency=Latency(60_000)))) as server:
        writers = []
        for x in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"GET /4/{x}/0.png HTTP/1.1\r\n\r\n".encode())
            writers.append(writer)
        while server.stats().in_flight < 10:
            await asyncio.sleep(0.001)
        for writer in writers:
            writer.close()
        while server.stats().in_flight:
            await asyncio.sleep(0.001)
        stats = server.stats()
        assert (stats.requests, stats.peak_in_flight, stats.abandoned, stats.by_status) == (10, 10, 10, {})


async def test_rate_limit_pushes_back_and_counts_the_impatient():
    """Two served, the third refused with the honest wait; too early counts, in time is served."""
    clock = Hands()
    settings = MockSettings(faults=Faults(rate_limit=RateLimit(0.25, 2)))
    async with MockServer(settings, now_s=clock) as server:
        assert [(await raw(server)).status for _ in range(2)] == [200, 200]
        refused = await raw(server)
        assert (refused.status, refused.headers["retry-after"]) == (429, "4")
        clock.now_s += 1.0
        early = await raw(server)
        assert (early.status, early.headers["retry-after"]) == (429, "3")
        assert server.stats().inside_retry_after == 1
        clock.now_s += 3.0
        assert (await raw(server)).status == 200
        stats = server.stats()
        assert (stats.inside_retry_after, stats.by_fault) == (1, {"rate_limit": 2})
        assert stats.by_status == {200: 3, 429: 2}
        assert (await raw(server)).status == 429
        assert server.reset().inside_retry_after == 1
        assert [(await raw(server)).status for _ in range(3)] == [200, 200, 429]


async def test_burst_of_429_names_its_end():
    """Inside the burst 429 until its end, outside 200."""
    clock = Hands()
    async with MockServer(MockSettings(faults=Faults(burst_429=Bursts(30, 5))), now_s=clock) as server:
        assert (await raw(server)).status == 200
        clock.now_s += 27.0
        seen = await raw(server)
        assert (seen.status, seen.headers["retry-after"]) == (429, "3")
        clock.now_s += 3.0
        assert (await raw(server)).status == 200


@pytest.mark.parametrize(
    ("rule", "header"),
    [
        (None, None),
        (RetryAfter("seconds", 7), "7"),
        (RetryAfter("raw", text="soon"), "soon"),
        (RetryAfter("raw"), None),
        (RetryAfter("date", 60), "Tue, 14 Nov 2023 23:14:20 GMT"),
    ],
)
async def test_retry_after_of_503_in_each_form(rule, header):
    """The header as asked for; a date follows the server's clock, which Date shows to be an hour ahead."""
    faults = Faults(errors={503: 1.0}, retry_after=rule)
    settings = MockSettings(faults=faults, clock_skew_s=3600)
    async with MockServer(settings, wall_s=lambda: NOON_S) as server:
        seen = await raw(server)
        assert (seen.status, seen.headers.get("retry-after")) == (503, header)
        assert parsedate_to_datetime(seen.headers["date"]).timestamp() == NOON_S + 3600
        assert server.stats().by_fault == {"error_503": 1}


async def test_capacity_serves_one_after_another_and_refuses_when_full():
    """One worker of 20 ms with one place: of three at once one is refused, the second takes 40 ms."""
    settings = MockSettings(faults=Faults(capacity=Capacity(1, 20, queue_max=1)))
    # A clock that stands makes the three come at once, however slow this machine is.
    async with MockServer(settings, now_s=Hands()) as server:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        seen = await asyncio.gather(*(raw(server, f"/4/{x}/0.png") for x in range(3)))
        assert sorted(answer.status for answer in seen) == [200, 200, 503]
        assert loop.time() - begun_s > 0.039
        assert (server.stats().by_fault, server.stats().queue_peak) == ({"queue_full": 1}, 1)


async def test_script_changes_the_faults_with_time():
    """Good, broken, good again; a reset begins the script again."""
    clock = Hands()
    settings = MockSettings(script=parse_script("- {at: 5, for: 10, errors: '503:1', retry_after: 2}"))
    async with MockServer(settings, now_s=clock) as server:
        statuses = []
        for wait_s in (0, 4.9, 0.2, 9.8, 0.2):
            clock.now_s += wait_s
            statuses.append((await raw(server)).status)
        assert statuses == [200, 200, 503, 503, 200]
        server.reset()
        clock.now_s += 6
        assert (await raw(server)).status == 503
        server.set_faults(Faults(latency=Latency(1)))
        assert (await raw(server)).status == 503
        with pytest.raises(ConfigError, match="at 5 s"):
            server.set_faults(Faults(errors={500: 0.5}))


async def test_connections_over_the_limit_are_cut():
    """The third of two connections gets nothing."""
    async with MockServer(MockSettings(connections_max=2)) as server:
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        assert (await raw(server)).status == 0
        for _, writer in pairs:
            writer.close()
        while server.stats().connections_open:
            await asyncio.sleep(0.001)
        assert (await raw(server)).status == 200
        assert server.stats().by_fault == {"connections_full": 1}
