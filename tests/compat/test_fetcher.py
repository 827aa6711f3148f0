"""Every call of the older fetcher, against a server that behaves and one that does not."""

import asyncio
import random
import subprocess
import sys
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

import tilehaul
from tilehaul.compat import fetcher
from tilehaul.compat.fetcher import (
    NoTileError,
    TileClientPool,
    TileData,
    benchmark,
    bounded_tile_stream,
    fetch_tile,
    fetch_tile_batch,
    fetch_tiles_concurrently,
    fetch_tiles_sequential,
    stream_tiles_to_disk,
)
from tilehaul.compat.fetcher.benchmark import main
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, Latency, RetryAfter
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.lab.mock_settings import MockSettings

TILES = [(6, x, y) for x in range(8) for y in range(5)]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch):
    async with MockServer(MockSettings(tile_bytes=600)) as mock:
        monkeypatch.setenv("TILE_BASE_URL", mock.base_url)
        yield mock


def true_bodies(server: MockServer, tiles=TILES) -> list[bytes]:
    return [server.body_of(f"{z}/{x}/{y}") for z, x, y in tiles]


async def test_one_tile_from_the_server_that_the_environment_names(server: MockServer) -> None:
    async with TileClientPool() as client:
        assert await fetch_tile(client, 5, 17, 11) == server.body_of("5/17/11")
        assert await fetch_tile(
            client, z=5, x=17, y=12, timeout_seconds=10.0, retries=2, backoff_base=0.2, backoff_cap=2.0
        ) == server.body_of("5/17/12")
    async with TileClientPool(max_connections=100) as pool:
        assert await fetch_tile(pool.client, 5, 17, 11) == server.body_of("5/17/11")


async def test_explicit_server_goes_before_the_environment(
    server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILE_BASE_URL", "http://127.0.0.1:9")
    for base_url in (server.base_url, server.base_url + "/", server.template):
        async with TileClientPool(base_url=base_url) as client:
            assert await fetch_tile(client, 5, 17, 11) == server.body_of("5/17/11")
    assert await fetch_tiles_concurrently(TILES[:2], base_url=server.base_url) == true_bodies(
        server, TILES[:2]
    )


async def test_many_tiles_come_in_the_order_of_the_question(server: MockServer) -> None:
    async with TileClientPool() as client:
        assert await fetch_tiles_concurrently(TILES, max_concurrency=10, client=client) == true_bodies(server)
    assert await fetch_tiles_concurrently(iter(TILES), 10, 10.0, 2) == true_bodies(server)
    assert await fetch_tiles_sequential(TILES[:5]) == true_bodies(server, TILES[:5])
    assert await fetch_tiles_concurrently([]) == []
    assert (await client.health.health_check())["stats"]["requests_successful"] == len(TILES)


async def test_never_more_at_once_than_said(server: MockServer) -> None:
    server.set_faults(Faults(latency=Latency(ms=3)))
    await fetch_tiles_concurrently(TILES, max_concurrency=3)
    assert server.stats().peak_in_flight <= 3
    server.reset()
    async with TileClientPool(max_connections=2) as client:
        await fetch_tiles_concurrently(TILES, max_concurrency=20, client=client)
    assert server.stats().peak_in_flight <= 2
    assert server.stats().connections_total <= 3 + 2
    server.reset()
    two_names = f"http://{{switch:127.0.0.1,localhost}}:{server.port}/{{z}}/{{x}}/{{y}}.png"
    async with TileClientPool(max_connections=2, base_url=two_names) as client:
        await fetch_tiles_concurrently(TILES, max_concurrency=20, client=client)
    assert server.stats().peak_in_flight <= 2
    server.reset()
    await fetch_tiles_sequential(TILES[:5])
    assert server.stats().peak_in_flight == 1


async def test_tile_named_twice_is_fetched_once_and_answered_twice(server: MockServer) -> None:
    body = server.body_of("6/1/1")
    assert await fetch_tiles_concurrently([(6, 1, 1), (6, 1, 1)]) == [body, body]
    assert server.requests_of("6/1/1") == 1


async def test_first_failure_is_raised_and_ends_the_rest(server: MockServer) -> None:
    server.set_faults(Faults(errors={403: 1.0}))
    with pytest.raises(tilehaul.DeniedError):
        await fetch_tiles_concurrently(TILES, max_concurrency=4)
    assert server.stats().requests < len(TILES)
    assert server.stats().in_flight == 0


async def test_failures_take_their_place_when_asked_for() -> None:
    settings = MockSettings(faults=Faults(errors={403: 0.3}), absence=Absence(share=0.3), seed=3)
    async with MockServer(settings) as server:
        outcomes = await fetch_tiles_concurrently(
            [*TILES, (6, 64, 0), (6, 1)], return_exceptions=True, base_url=server.base_url
        )
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds == {bytes, tilehaul.DeniedError, NoTileError, tilehaul.PlanError}
        for tile, outcome in zip(TILES, outcomes, strict=False):
            name = "/".join(map(str, tile))
            if isinstance(outcome, bytes):
                assert outcome == server.body_of(name)
            elif isinstance(outcome, NoTileError):
                assert server.is_absent(name)
                assert outcome.tile == tile
        assert "column 64" in str(outcomes[-2])
        assert "(6, 1)" in str(outcomes[-1])


async def test_retries_and_their_waits_are_those_that_were_asked_for(server: MockServer) -> None:
    """Attempts are counted at the server; a cap of 0 means no wait at all."""
    server.set_faults(Faults(errors={500: 1.0}))
    async with TileClientPool() as client:
        for retries in (0, 3):
            server.reset()
            with pytest.raises(tilehaul.BrokenError) as caught:
                await fetch_tile(client, 6, 1, 1, retries=retries, backoff_base=60.0, backoff_cap=0.0)
            assert caught.value.attempts == server.requests_of("6/1/1") == retries + 1


async def test_timeout_ends_the_attempt(server: MockServer) -> None:
    server.set_faults(Faults(shares={"black_hole": 1.0}))
    async with TileClientPool() as client:
        with pytest.raises(tilehaul.TimedOutError):
            await fetch_tile(client, 6, 1, 1, timeout_seconds=0.03, retries=1, backoff_base=0.0)
        assert server.requests_of("6/1/1") == 2


async def test_server_that_asks_for_fewer_requests_costs_no_attempt(server: MockServer) -> None:
    """With the server's seed 0, tile 6/1/1 is refused once."""
    server.set_faults(Faults(errors={429: 0.5}, retry_after=RetryAfter(delay_s=0.0)))
    async with TileClientPool() as client:
        assert await fetch_tile(client, 6, 1, 1, retries=0) == server.body_of("6/1/1")
    assert server.requests_of("6/1/1") == 2


async def test_wait_that_is_too_long_is_told_and_not_waited_for(server: MockServer) -> None:
    server.set_faults(Faults(errors={429: 1.0}, retry_after=RetryAfter(delay_s=3600)))
    async with TileClientPool(max_wait_s=1.0) as client:
        with pytest.raises(tilehaul.ThrottledError):
            await fetch_tile(client, 6, 1, 1)
    assert server.stats().requests == 1


async def test_global_timeout_ends_all_and_keeps_what_came_when_asked_to(server: MockServer) -> None:
    async with TileClientPool() as client:
        await fetch_tile(client, *TILES[0])
        server.set_faults(Faults(shares={"black_hole": 1.0}))
        with pytest.raises(TimeoutError, match="0 of 40 tiles had come"):
            await fetch_tiles_concurrently(TILES, client=client, global_timeout=0.05)
        outcomes = await fetch_tiles_concurrently(
            TILES, client=client, global_timeout=0.05, return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {TimeoutError}


async def test_server_that_fails_is_left_alone(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)  # the pause in its full length
    server.set_faults(Faults(errors={500: 1.0}))
    async with TileClientPool() as client:
        outcomes = await fetch_tiles_concurrently(
            TILES, client=client, retries=2, backoff_base=0.0, return_exceptions=True
        )
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds == {tilehaul.BrokenError, tilehaul.BusyError}
    assert server.stats().requests < len(TILES)


async def test_pool_that_pauses_waits_for_the_server(
    server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails until it has been asked 20 times, when the breaker of a job opens; then it is well."""
    monkeypatch.setattr(random, "random", lambda: 0.99)  # the pause at its shortest
    await fetch_tiles_concurrently(TILES[:1])
    server.reset()
    server.set_faults(Faults(errors={500: 1.0}))

    async def mend() -> None:
        while server.stats().requests < 20:
            await asyncio.sleep(0.001)
        server.set_faults(Faults())

    mending = asyncio.create_task(mend())
    async with TileClientPool(pause=True) as client:
        outcomes = await fetch_tiles_concurrently(
            TILES, client=client, retries=3, backoff_base=0.0, return_exceptions=True
        )
    await mending
    assert tilehaul.BusyError not in {type(outcome) for outcome in outcomes}


async def test_cancelled_caller_leaves_nothing_behind(server: MockServer) -> None:
    server.set_faults(Faults(shares={"black_hole": 1.0}))
    before = asyncio.all_tasks()
    async with TileClientPool() as client:
        task = asyncio.create_task(fetch_tiles_concurrently(TILES, client=client))
        while server.stats().requests < 4:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.health.stats["requests_total"] == client.health.stats["current_concurrency"] == 0
    assert asyncio.all_tasks() == before


async def test_absent_tile_is_told_apart_from_a_failure() -> None:
    async with (
        MockServer(MockSettings(absence=Absence(share=1.0))) as server,
        TileClientPool(base_url=server.base_url) as client,
    ):
        with pytest.raises(NoTileError, match="6/1/1") as caught:
            await fetch_tile(client, 6, 1, 1)
        assert isinstance(caught.value, tilehaul.TilehaulError)
        assert client.health.stats["requests_failed"] == 0


async def test_batches_yield_in_order_and_leave_out_what_failed(
    server: MockServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with TileClientPool() as client:
        assert [tile async for tile in fetch_tile_batch(client, TILES, batch_size=7)] == true_bodies(server)
        assert [tile async for tile in fetch_tile_batch(client, TILES)] == true_bodies(server)
        server.set_faults(Faults(errors={403: 0.5}))
        failed = []
        came = [
            tile
            async for tile in fetch_tile_batch(
                client, TILES, on_error=lambda tile, error: failed.append((tile, error))
            )
        ]
        assert 0 < len(failed) < len(TILES)
        lost = {tile for tile, _ in failed}
        assert came == true_bodies(server, [tile for tile in TILES if tile not in lost])
        server.set_faults(Faults(errors={403: 1.0}))
        assert [tile async for tile in fetch_tile_batch(client, TILES[:2])] == []
        assert caplog.text.count("left out of the batch") == 2


async def test_batch_holds_no_more_than_its_size(server: MockServer) -> None:
    server.set_faults(Faults(latency=Latency(ms=2)))
    async with TileClientPool() as client:
        seen = 0
        async for _ in fetch_tile_batch(client, TILES, 4):
            seen += 1
            assert server.stats().requests <= -(-seen // 4) * 4
    assert server.stats().peak_in_flight <= 4


async def test_stream_tells_each_tile_with_its_address_and_reads_lazily(server: MockServer) -> None:
    taken = 0

    def endless():
        nonlocal taken
        for number in range(4**10):
            taken += 1
            yield (10, number % 1024, number // 1024)

    async with TileClientPool() as client:
        got = {}
        async with aclosing(bounded_tile_stream(client, endless(), max_concurrency=5)) as tiles:
            async for tile in tiles:
                assert isinstance(tile, TileData)
                got[tile.z, tile.x, tile.y] = tile.data
                if len(got) == 30:
                    break
        assert all(body == server.body_of("/".join(map(str, place))) for place, body in got.items())
        assert taken <= 30 + 4 * 5
        assert server.stats().requests <= taken

        async def waited():
            for tile in TILES:
                await asyncio.sleep(0)
                yield tile

        assert {tile[:3] async for tile in bounded_tile_stream(client, waited())} == set(TILES)


async def test_stream_raises_a_failure_or_tells_it(server: MockServer) -> None:
    server.set_faults(Faults(errors={403: 0.5}))
    async with TileClientPool() as client:
        with pytest.raises(tilehaul.DeniedError):
            async for _ in bounded_tile_stream(client, TILES):
                pass
        failed = []
        came = [
            tile[:3]
            async for tile in bounded_tile_stream(
                client, TILES, on_error=lambda tile, _error: failed.append(tile)
            )
        ]
        assert sorted([*came, *failed]) == TILES


async def test_tiles_that_break_off_in_the_middle_end_the_stream_after_what_was_begun(
    server: MockServer,
) -> None:
    def broken():
        yield from TILES[:10]
        raise LookupError("the list ended badly")

    async with TileClientPool() as client:
        got = []

        async def read() -> None:
            async for tile in bounded_tile_stream(client, broken(), 3):
                got.append(tile[:3])

        with pytest.raises(LookupError, match="ended badly"):
            await read()
        assert sorted(got) == TILES[:10]


async def test_tiles_are_kept_on_disk_and_asked_for_once(server: MockServer, tmp_path: Path) -> None:
    report = await stream_tiles_to_disk(TILES, tmp_path / "tiles")
    assert (report.state, report.done) == ("complete", len(TILES))
    for (z, x, y), body in zip(TILES, true_bodies(server), strict=True):
        assert (tmp_path / "tiles" / f"{z}/{x}/{y}.png").read_bytes() == body
    requests = server.stats().requests
    assert requests == len(TILES)
    assert (await stream_tiles_to_disk(TILES, tmp_path / "tiles")).skipped == len(TILES)
    assert server.stats().requests == requests


async def test_directory_has_the_old_default(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await stream_tiles_to_disk(TILES[:1])
    assert (tmp_path / "tiles/6/0/0.png").is_file()


async def test_bulk_is_refused_where_the_provider_forbids_it_and_one_tile_is_not() -> None:
    """The older default server; nothing is sent here."""
    async with TileClientPool(base_url="https://tile.openstreetmap.org") as client:
        with pytest.raises(tilehaul.PlanError, match="prohibits"):
            await fetch_tiles_concurrently(TILES, client=client)
        with pytest.raises(tilehaul.PlanError, match="prohibits"):
            await fetch_tiles_sequential(TILES, client=client)
        with pytest.raises(tilehaul.PlanError, match="prohibits"):
            async for _ in bounded_tile_stream(client, TILES):
                pass
        with pytest.raises(tilehaul.PlanError, match="prohibits"):
            async for _ in fetch_tile_batch(client, TILES):
                pass
    with pytest.raises(tilehaul.PlanError, match="prohibits"):
        await stream_tiles_to_disk(TILES, base_url="https://tile.openstreetmap.org")


class ForeignClient:
    """Of another library."""


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda c: fetch_tile(ForeignClient(), 1, 0, 0),
            TypeError,
            "takes a TileClientPool, not .*ForeignClient",
        ),
        (lambda c: fetch_tiles_concurrently(TILES, client=ForeignClient()), TypeError, "TileClientPool"),
        (lambda c: anext(fetch_tile_batch(ForeignClient(), TILES)), TypeError, "TileClientPool"),
        (lambda c: anext(bounded_tile_stream(ForeignClient(), TILES)), TypeError, "TileClientPool"),
        (lambda c: fetch_tile(TileClientPool(base_url="http://h"), 1, 0, 0), RuntimeError, "async with"),
        (lambda c: fetch_tile(c, 1, 2, 0), tilehaul.PlanError, "column 2"),
        (lambda c: fetch_tile(c, 1, 0.5, 0), tilehaul.PlanError, "not a tile"),
        (lambda c: fetch_tile(c, 1, 0, 0, retries=-1), ValueError, "retries"),
        (lambda c: fetch_tile(c, 1, 0, 0, timeout_seconds=0), ValueError, "timeout"),
        (lambda c: fetch_tile(c, 1, 0, 0, backoff_base=-1), ValueError, "waits"),
        (lambda c: fetch_tile(c, 1, 0, 0, backoff_cap=float("inf")), ValueError, "waits"),
        (lambda c: fetch_tiles_concurrently(TILES, 0, client=c), ValueError, "max_concurrency"),
        (lambda c: fetch_tiles_concurrently(TILES, global_timeout=0, client=c), ValueError, "global_timeout"),
        (lambda c: fetch_tiles_concurrently(TILES, client=c, base_url="http://h"), ValueError, "base_url"),
        (lambda c: fetch_tiles_concurrently([(1, 0, 0), "x"], client=c), tilehaul.PlanError, "'x'"),
        (lambda c: fetch_tiles_sequential([None], client=c), tilehaul.PlanError, "None"),
        (lambda c: anext(fetch_tile_batch(c, TILES, 0)), ValueError, "batch_size"),
        (lambda c: anext(bounded_tile_stream(c, TILES, 0)), ValueError, "max_concurrency"),
        (lambda c: anext(bounded_tile_stream(c, [(1, 2)])), tilehaul.PlanError, "not a tile"),
        (lambda c: stream_tiles_to_disk(TILES, max_concurrency=0), ValueError, "max_concurrency"),
        (lambda c: stream_tiles_to_disk(TILES, retries=-1), ValueError, "retries"),
    ],
)
async def test_bad_arguments_send_nothing_and_say_what_is_wrong(
    server: MockServer, call, error, says
) -> None:
    async with TileClientPool() as client:
        with pytest.raises(error, match=says):
            await call(client)
    assert server.stats().requests == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections": 100_000}, "max_connections"),
        ({"max_wait_s": -1}, "max_wait_s"),
        ({"base_url": ""}, "TILE_BASE_URL"),
        ({"base_url": "http://h/{z}/{x}.png"}, "base_url"),
    ],
)
def test_pool_that_cannot_be_says_why(options, says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TILE_BASE_URL", raising=False)
    with pytest.raises(ValueError, match=says):
        TileClientPool(**{"base_url": "http://127.0.0.1:9", **options})


async def test_pool_is_entered_once_at_a_time_and_can_be_opened_again(server: MockServer) -> None:
    pool = TileClientPool()
    for _ in range(2):
        async with pool as client:
            assert await fetch_tile(client, 6, 1, 1) == server.body_of("6/1/1")
            with pytest.raises(RuntimeError, match="open already"):
                await pool.__aenter__()


async def test_foreign_clients_module_is_named() -> None:
    with pytest.raises(TypeError, match=r"not asyncio.*\.Event"):
        await fetch_tile(asyncio.Event(), 1, 0, 0)  # type: ignore[arg-type]


def test_benchmark_prints_a_table_of_both_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with MockThread() as server:
        monkeypatch.setenv("TILE_BASE_URL", server.base_url)
        benchmark(tile_count=20, max_concurrency=10, timeout_seconds=10.0, retries=2, global_timeout=None)
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert [row[0] for row in rows] == ["c", "1", "10"]
        # Each level warms up on its own connections first: 1 and 10 requests.
        assert server.stats().requests == 20 + 1 + 20 + 10
    assert not any(thread.name.startswith("tilehaul") for thread in threading.enumerate())


async def test_benchmark_works_inside_a_running_loop(
    server: MockServer, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(benchmark, 4, 1)
    assert capsys.readouterr().out.count("\n") == 2


def test_command_line_is_the_old_one(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    for name in ("MAX_CONCURRENCY", "TIMEOUT_SECONDS", "RETRIES"):
        monkeypatch.delenv(name, raising=False)
    with MockThread() as server:
        monkeypatch.setenv("TILE_BASE_URL", server.base_url)
        asked = ["--tile-count", "100", "--max-concurrency", "50", "--timeout", "2", "--retries", "3"]
        assert main(asked) == 0
        assert server.stats().requests == 100 + 1 + 100 + 50
        server.reset()
        monkeypatch.setenv("MAX_CONCURRENCY", "4")
        assert main(["--tile-count", "8"]) == 0
        assert server.stats().requests == 8 + 1 + 8 + 4
        server.reset()
        monkeypatch.setenv("TILE_BASE_URL", "http://127.0.0.1:9")
        assert main(["--tile-count", "1", "--base-url", server.base_url, "--global-timeout", "30"]) == 0
        server.set_faults(Faults(errors={403: 1.0}))
        assert main(["--tile-count", "1", "--base-url", server.base_url]) == 3
    assert "http_403" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["--tile-count", "0"], {}, "--tile-count"),
        (["--max-concurrency", "0"], {}, "max_concurrency"),
        (["--timeout", "0"], {}, "timeout"),
        (["--retries", "-1"], {}, "retries"),
        (["--global-timeout", "0"], {}, "global_timeout"),
        (["--base-url", "https://tile.openstreetmap.org"], {}, "prohibits"),
        ([], {"MAX_CONCURRENCY": "many"}, "MAX_CONCURRENCY=many"),
    ],
)
def test_command_line_answers_nonsense_in_one_line(arguments, variables, says, capsys, monkeypatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1


def test_module_runs() -> None:
    """Without a server: one of its own."""
    done = subprocess.run(
        [sys.executable, "-m", fetcher.__name__, "--tile-count", "2", "--max-concurrency", "2"],
        capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert "no source given: measuring http://127.0.0.1" in done.stdout
    assert done.stderr == ""
