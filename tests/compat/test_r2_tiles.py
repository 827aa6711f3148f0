"""The old tile cache: every call of its document, and what it promises, counted at the server."""

import logging
import random
import threading
from pathlib import Path

import pytest

import tilehaul
from tilehaul.compat.r2_tiles import R2TileCache, hauler
from tilehaul.compat.r2_tiles.memory import KeptTiles
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, Latency, RetryAfter
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.net.clock import SystemClock

TILES = [(1, 6, x, y, "png") for x in range(5) for y in range(4)]


class CountedClock(SystemClock):
    """Waits are noted and not waited."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)


@pytest.fixture
def server():
    with MockThread(MockSettings(tile_bytes=600)) as mock:
        yield mock


def cache_at(server: MockThread, **settings) -> R2TileCache:
    """The lab's tiles are of no dataset."""
    return R2TileCache(location=f"{server.base_url}/{{z}}/{{x}}/{{y}}.{{fmt}}", **settings)


def key(tile: tuple) -> str:
    return "{}/{}/{}/{}.{}".format(*tile)


def true_body(server: MockThread, tile: tuple) -> bytes:
    return server.body_of("{1}/{2}/{3}".format(*tile))


# The calls of the document


@pytest.mark.parametrize(
    ("settings", "size", "workers"),
    [
        ({}, 500, 50),
        ({"max_cache_size": 500, "thread_workers": 50}, 500, 50),
        ({"max_cache_size": 1000, "thread_workers": 100}, 1000, 100),
        ({"max_cache_size": 200, "thread_workers": 20}, 200, 20),
    ],
)
def test_batch_comes_at_once_and_the_next_time_from_memory(
    server: MockThread, settings: dict, size: int, workers: int
) -> None:
    with cache_at(server, **settings) as tile_cache:
        for _ in range(2):
            results = tile_cache.fetch_tiles_parallel_sync(TILES)
            assert results == {key(tile): true_body(server, tile) for tile in TILES}
            assert list(results) == [key(tile) for tile in TILES]
        stats = tile_cache.get_cache_stats()
    assert server.stats().requests == len(TILES)
    assert stats["thread_workers"] == tile_cache.thread_workers == workers
    assert stats["cache_max"] == tile_cache.max_cache_size == size
    assert stats["cache_size"] == stats["cache_hits"] == stats["cache_misses"] == stats["fetches"] == 20
    assert (stats["total_requests"], stats["hit_rate"], stats["enabled"]) == (40, 50.0, True)
    assert stats["cache_bytes"] == 20 * 600
    assert 0.0 < stats["p50_fetch_ms"] <= stats["p95_fetch_ms"] <= stats["p99_fetch_ms"]
    assert 0.0 < stats["avg_fetch_time_ms"] <= stats["p99_fetch_ms"]
    assert (stats["current_concurrent_fetches"], stats["fetches_failed"], stats["errors"]) == (0, 0, {})
    assert 1 <= stats["max_concurrent_fetches"] <= min(workers, 20)
    assert not any(stats[name] for name in ("coalesced", "from_local", "prefetched", "prefetch_queue"))


def test_single_tile_as_the_old_route_did_it(server: MockThread) -> None:
    """Memory, else the server, and kept then: `curl /api/tiles/1/0/0/0.jpg`, twice."""
    tile_cache = R2TileCache(location=f"{server.base_url}/{{z}}/{{x}}/{{y}}.png")

    def route(dataset_id: int, z: int, x: int, y: int, fmt: str) -> bytes | None:
        data = tile_cache.get_cached_tile(dataset_id, z, x, y, fmt)
        if data is None:
            url = tile_cache.get_tile_url(dataset_id, z, x, y, fmt)
            data = tile_cache.fetch_tile_sync(url, timeout=10, retry=3)
            tile_cache.cache_tile(dataset_id, z, x, y, data, fmt)
        return data

    assert [route(1, 0, 0, 0, "jpg") for _ in range(2)] == [server.body_of("0/0/0")] * 2
    assert server.stats().requests == 1
    assert tile_cache.get_cached_tile(1, 0, 0, 0) == server.body_of("0/0/0")  # jpg, unless it is named
    assert tile_cache.get_tile_key(1, 0, 0, 0) == "1/0/0/0.jpg"
    assert tile_cache.get_cache_stats()["hit_rate"] == 66.67
    # The document's batch. There is no column 2 in zoom 1 here; a picture's pyramid might have one.
    batch = tile_cache.fetch_tiles_parallel_sync([(1, 0, 0, 0, "jpg"), (1, 1, 2, 3, "jpg")])
    assert batch == {"1/0/0/0.jpg": server.body_of("0/0/0"), "1/1/2/3.jpg": None}
    assert server.stats().by_status == {200: 1, 404: 1}
    tile_cache.close()


async def test_asynchronous_form_still_works_and_says_that_it_is_deprecated(server: MockThread) -> None:
    with cache_at(server) as tile_cache:
        for _ in range(2):
            with pytest.warns(DeprecationWarning, match="fetch_tiles_parallel_sync"):
                results = await tile_cache.fetch_tiles_parallel(TILES)
            assert results == {key(tile): true_body(server, tile) for tile in TILES}
    assert server.stats().requests == len(TILES)


def test_one_line_a_batch_with_tiles_per_second(server: MockThread, caplog: pytest.LogCaptureFixture) -> None:
    """And no place of a map in it: that says where people are."""
    caplog.set_level(logging.INFO, "tilehaul.compat")
    with cache_at(server, thread_workers=7) as tile_cache:
        tile_cache.fetch_tiles_parallel_sync(TILES)
        tile_cache.fetch_tiles_parallel_sync([*TILES, (1, -1, 0, 0, "png")])
        tile_cache.fetch_tile_sync(f"{server.base_url}/0/0/0.png")
        server.set_faults(Faults(errors={403: 1.0}))
        tile_cache.fetch_tiles_parallel_sync([(1, 7, 1, 1, "png")])
        tile_cache.fetch_tile_sync(f"{server.base_url}/7/77/55.png")
    first, second, third, fourth = caplog.messages
    assert first.startswith("fetched 20 of 20 tiles in ")
    assert " tiles/s, 7 workers): 20 server" in first
    assert second.endswith("20 memory, 1 impossible")
    assert third.endswith("1 failed (1 x http_403)")
    assert fourth == "a tile did not come: http_403"


# How it asks


def test_waits_between_attempts_are_the_old_ones(server: MockThread) -> None:
    server.set_faults(Faults(errors={500: 1.0}))
    url = f"{server.base_url}/6/1/1.png"
    for retry, waits in [(0, []), (3, [0.3, 0.9, 2.7]), (4, [0.3, 0.9, 2.7, 8.1])]:
        server.reset()
        clock = CountedClock()
        with cache_at(server, clock=clock) as tile_cache:
            assert tile_cache.fetch_tile_sync(url, retry=retry) is None
            assert tile_cache.get_cache_stats()["errors"] == {"http_500": 1}
        assert clock.slept == pytest.approx(waits)
        assert server.requests_of("6/1/1") == retry + 1
    clock = CountedClock()
    server.reset()
    with cache_at(server, clock=clock) as tile_cache:
        assert tile_cache.fetch_tiles_parallel_sync([(1, 6, 1, 1, "png")]) == {"1/6/1/1.png": None}
    assert clock.slept == pytest.approx([0.3, 0.9, 2.7])
    assert server.requests_of("6/1/1") == 4


def test_timeout_ends_each_attempt(server: MockThread) -> None:
    server.set_faults(Faults(shares={"black_hole": 1.0}))
    with cache_at(server, clock=CountedClock()) as tile_cache:
        assert tile_cache.fetch_tile_sync(f"{server.base_url}/6/1/1.png", timeout=0.05, retry=1) is None
        assert tile_cache.get_cache_stats()["errors"] == {"timeout_first_byte": 1}
        assert server.requests_of("6/1/1") == 2
        assert server.stats().connections_open == 0


def test_call_as_a_whole_has_an_end(server: MockThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that does not end: the call does, after a timeout for each attempt and the waits' own time."""
    assert hauler.limit_s_of(hauler.PATIENCE) == pytest.approx(4 * 10 + 0.3 + 0.9 + 2.7)
    assert hauler.limit_s_of(hauler.patience_of(1.0, 12)) < 13 + 12 * hauler.DELAY_S_MAX
    monkeypatch.setattr(hauler, "DELAY_S_FIRST", 0.001)

    class StuckClock(SystemClock):
        async def sleep(self, delay_s: float) -> None:
            await super().sleep(3600.0)

    server.set_faults(Faults(errors={500: 1.0}))
    with cache_at(server, clock=StuckClock()) as tile_cache:
        assert tile_cache.fetch_tile_sync(f"{server.base_url}/6/1/1.png", timeout=0.02, retry=1) is None
        assert tile_cache.get_cache_stats()["errors"] == {"timeout_total": 1}
        assert server.requests_of("6/1/1") == 1


def test_never_more_at_once_than_workers(server: MockThread) -> None:
    """To all hosts together; and as many as that, at once."""
    server.set_faults(Faults(latency=Latency(ms=3)))
    for workers in (3, 8):
        server.reset()
        with cache_at(server, thread_workers=workers) as tile_cache:
            other = [f"http://localhost:{server.port}/7/{x}/0.png" for x in range(10)]
            threads = [threading.Thread(target=tile_cache.fetch_tile_sync, args=[url]) for url in other]
            for thread in threads:
                thread.start()
            tile_cache.fetch_tiles_parallel_sync(TILES)
            for thread in threads:
                thread.join()
            assert tile_cache.get_cache_stats()["max_concurrent_fetches"] == workers
        stats = server.stats()
        assert stats.requests == len(TILES) + 10
        assert 1 < stats.peak_in_flight <= workers


def test_lane_where_the_tiles_are_begins_with_all_workers(server: MockThread) -> None:
    """As the threads did, and shrinks when told to; a host that was not named here is not trusted so far."""
    with cache_at(server, thread_workers=40) as tile_cache:
        tile_cache.fetch_tiles_parallel_sync(TILES[:1])
        tile_cache.fetch_tile_sync(f"http://localhost:{server.port}/7/1/1.png")
        hauled = tile_cache._engine.opened().hauler
        assert [lane.limit for lane in (*hauled._own.lanes(), *hauled._other.lanes())] == [40, 16]
        server.set_faults(Faults(errors={429: 1.0}, retry_after=RetryAfter(delay_s=3600)))
        tile_cache.fetch_tiles_parallel_sync([(1, 8, x, 0, "png") for x in range(60)])
        assert hauled._own.lanes()[0].limit < 40


def test_tile_named_twice_is_fetched_once(server: MockThread) -> None:
    with cache_at(server, max_cache_size=0) as tile_cache:
        assert tile_cache.fetch_tiles_parallel_sync(TILES[:2] * 3) == {
            key(tile): true_body(server, tile) for tile in TILES[:2]
        }
    assert server.stats().requests == 2


def test_threads_that_ask_for_one_tile_share_its_fetch(server: MockThread) -> None:
    """The first attempt fails; the wait before the second lasts until all have asked."""
    go_on = threading.Event()

    class GatedClock(SystemClock):
        async def sleep(self, delay_s: float) -> None:
            while not go_on.is_set():
                await super().sleep(0.001)

    server.set_faults(Faults(errors={500: 1.0}))
    results = []
    with cache_at(server, clock=GatedClock()) as tile_cache:
        url = tile_cache.get_tile_url(1, 6, 1, 1, "png")
        batch = [(1, 6, 1, 1, "png")]
        asks = [lambda: results.append(tile_cache.fetch_tile_sync(url))] * 4
        asks += [lambda: results.extend(tile_cache.fetch_tiles_parallel_sync(batch).values())] * 4
        threads = [threading.Thread(target=ask) for ask in asks]
        for thread in threads:
            thread.start()
        while tile_cache.get_cache_stats()["coalesced"] < 7 or server.requests_of("6/1/1") < 1:
            pass
        server.set_faults(Faults())
        go_on.set()
        for thread in threads:
            thread.join()
    assert results == [server.body_of("6/1/1")] * 8
    assert server.requests_of("6/1/1") == 2


def test_server_that_asks_for_an_hour_gets_one_request() -> None:
    """The lane is held for all: nobody waits longer than somebody in front of a map does."""
    faults = Faults(errors={429: 1.0}, retry_after=RetryAfter(delay_s=3600))
    with MockThread(MockSettings(faults=faults)) as server, cache_at(server) as tile_cache:
        assert tile_cache.fetch_tile_sync(f"{server.base_url}/6/1/1.png") is None
        assert set(tile_cache.fetch_tiles_parallel_sync(TILES).values()) == {None}
        assert server.stats().requests == 1


def test_what_fails_or_is_damaged_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(errors={403: 0.3}, shares={"short_length": 0.2})
    settings = MockSettings(faults=faults, absence=Absence(share=0.3), seed=5, tile_bytes=600)
    caplog.set_level(logging.INFO, "tilehaul.compat")
    with MockThread(settings) as server, cache_at(server, clock=CountedClock()) as tile_cache:
        results = tile_cache.fetch_tiles_parallel_sync(TILES)
        come = {name: body for name, body in results.items() if body is not None}
        assert come == {
            key(tile): true_body(server, tile) for tile in TILES if results[key(tile)] is not None
        }
        stats = tile_cache.get_cache_stats()
        assert 0 < len(come) == stats["cache_size"] < len(TILES)
        assert stats["errors"]["http_403"] > 0
        assert server.stats().by_status[404] > 0
        assert f"fetched {len(come)} of 20 tiles" in caplog.text
        assert stats["fetches"] + stats["fetches_failed"] == 20


def test_what_cannot_be_a_tile_is_none_and_nothing_is_sent(server: MockThread) -> None:
    """Names come from strangers' addresses."""
    wrong = [
        ("..", 1, 0, 0, "png"), ("a/b", 1, 0, 0, "png"), ("", 1, 0, 0, "png"), ("1?x=1", 1, 0, 0, "png"),
        (1, -1, 0, 0, "png"), (1, 31, 0, 0, "png"), (1, 1, 1 << 31, 0, "png"), (1, 1, 0, -1, "png"),
        (1, 1, 0, 0, "png/.."), (1, 1, 0, 0, ""), (1, "1", 0, 0, "png"), (1, 1.0, 0, 0, "png"),
    ]  # fmt: skip
    with cache_at(server) as tile_cache:
        results = tile_cache.fetch_tiles_parallel_sync([*wrong, TILES[0]])
        assert [name for name, body in results.items() if body is not None] == [key(TILES[0])]
        assert len(results) == len(wrong) + 1
        assert server.stats().requests == 1
        # Python takes True for 1.
        assert list(tile_cache.fetch_tiles_parallel_sync([(1, 6, True, 0, "png")])) == ["1/6/True/0.png"]
        with pytest.raises(tilehaul.PlanError, match="dataset"):
            tile_cache.get_tile_url("..", 1, 0, 0)
        with pytest.raises(ValueError, match="unpack"):
            tile_cache.fetch_tiles_parallel_sync([(1, 2, 3)])  # type: ignore[list-item]
        assert tile_cache.fetch_tile_sync(None) is None
        assert tile_cache.fetch_tile_sync("nonsense") is None


def test_secret_of_an_address_is_in_no_log(server: MockThread, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.set_faults(Faults(errors={403: 1.0}))
    location = f"{server.base_url}/{{z}}/{{x}}/{{y}}.png?api_key=hunter2hunter2"
    with R2TileCache(location=location) as tile_cache:
        tile_cache.fetch_tiles_parallel_sync(TILES[:1])
    assert "403" in caplog.text
    assert "hunter2" not in caplog.text


# Memory and local storage


def test_memory_holds_the_tiles_used_last(server: MockThread) -> None:
    with cache_at(server, max_cache_size=3) as tile_cache:
        tile_cache.fetch_tiles_parallel_sync(TILES[:3])
        tile_cache.get_cached_tile(*TILES[0])
        tile_cache.fetch_tiles_parallel_sync(TILES[3:4])
        assert [tile_cache.get_cached_tile(*tile) is not None for tile in TILES[:4]] == [
            True,
            False,
            True,
            True,
        ]
        assert tile_cache.get_cache_stats()["cache_size"] == 3
        tile_cache.cache_tile(*TILES[0][:4], b"another", "png")
        tile_cache.cache_tile(*TILES[2][:4], b"", "png")
        assert tile_cache.get_cached_tile(*TILES[0]) == b"another"
        assert tile_cache.get_cached_tile(*TILES[2]) == true_body(server, TILES[2])


def test_memory_is_bounded_by_bytes_too() -> None:
    kept = KeptTiles(10, bytes_max=100)
    for number in range(5):
        kept.keep(str(number), bytes(40))
    assert kept.size() == (2, 80)
    kept.keep("4", bytes(101))
    assert (kept.size(), kept.find("4")) == ((1, 40), None)
    none = KeptTiles(0)
    none.keep("a", b"a")
    assert none.size() == (0, 0)


def test_local_storage_answers_while_the_server_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not kept: once the server is back, its tiles come."""
    monkeypatch.setattr(random, "random", lambda: 0.0)  # the breaker's pause in its full length
    with MockThread(MockSettings(faults=Faults(errors={503: 1.0}), tile_bytes=600)) as server:
        folder = tmp_path / "1" / "6" / "0"
        folder.mkdir(parents=True)
        local = server.body_of("3/3/3")
        (folder / "0.png").write_bytes(local)
        (folder / "1.png").write_bytes(local[:-20])
        (folder / "2.png").mkdir()
        (tmp_path / "1" / "6" / "1").write_bytes(b"a file where a folder should be")
        with cache_at(server, local_storage=tmp_path, clock=CountedClock()) as tile_cache:
            results = tile_cache.fetch_tiles_parallel_sync(TILES[:5])
            assert list(results.values()) == [local, None, None, None, None]
            stats = tile_cache.get_cache_stats()
            assert (stats["from_local"], stats["cache_size"]) == (1, 0)
            # Enough failures: the server is left alone, and local storage answers at once.
            tile_cache.fetch_tiles_parallel_sync(TILES)
            asked = server.stats().requests
            assert tile_cache.fetch_tiles_parallel_sync(TILES[:1]) == {key(TILES[0]): local}
            assert server.stats().requests == asked
        server.set_faults(Faults())
        with cache_at(server, local_storage=str(tmp_path)) as tile_cache:
            assert tile_cache.fetch_tiles_parallel_sync(TILES[:1]) == {
                key(TILES[0]): true_body(server, TILES[0])
            }


def test_local_storage_has_what_the_server_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R2_PUBLIC_URL", raising=False)
    with MockThread(MockSettings(absence=Absence(share=1.0))) as server:
        file = tmp_path / "1" / "6" / "0" / "0.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(server.body_of("3/3/3"))
        for tile_cache in (cache_at(server, local_storage=tmp_path), R2TileCache(local_storage=tmp_path)):
            with tile_cache:
                assert tile_cache.fetch_tiles_parallel_sync(TILES[:2]) == {
                    key(TILES[0]): server.body_of("3/3/3"),
                    key(TILES[1]): None,
                }
        assert server.stats().requests == 2


# Fetching ahead


def test_neighbours_are_fetched_ahead_and_nothing_before_that_is_asked_for(server: MockThread) -> None:
    with cache_at(server) as tile_cache:
        tile_cache.fetch_tiles_parallel_sync([(1, 6, 10, 10, "png")])
        assert server.stats().requests == 1
        tile_cache.queue_prefetch(1, 6, 10, 10, format="png")
        while tile_cache.get_cache_stats()["prefetched"] < 8:
            pass
        square = [(1, 6, x, y, "png") for x in (9, 10, 11) for y in (9, 10, 11)]
        assert all(tile_cache.fetch_tiles_parallel_sync(square).values())
        assert server.stats().requests == 9
        # Kept already, or off the grid: nothing to fetch; in a wider pyramid the grid has no end.
        tile_cache.queue_prefetch(1, 6, 10, 10, 8, "png")
        tile_cache.queue_prefetch(1, 0, 0, 0, 8, "png")
        settle(tile_cache)
        assert server.stats().requests == 9
        tile_cache.queue_prefetch(1, 1, 2, 3, 4, "png")
        while server.stats().requests < 13:
            pass


def settle(tile_cache: R2TileCache) -> None:
    """Until what was queued before has been looked at."""
    engine = tile_cache._engine.opened()
    engine.thread.run(engine.hauler.look_ahead())


def test_fetching_ahead_takes_half_of_what_may_be_under_way_and_waits_its_turn(server: MockThread) -> None:
    server.set_faults(Faults(shares={"black_hole": 1.0}))
    with cache_at(server, thread_workers=8) as tile_cache:
        tile_cache.queue_prefetch(1, 6, 10, 10)
        settle(tile_cache)
        assert tile_cache.get_cache_stats()["prefetch_queue"] == 4
        while server.stats().requests < 4:
            pass
    with cache_at(server, thread_workers=8) as tile_cache:
        server.reset()
        asking = threading.Thread(target=closed, args=(tile_cache, TILES[:4]))
        asking.start()
        while server.stats().requests < 4:
            pass
        tile_cache.queue_prefetch(1, 6, 10, 10)
        settle(tile_cache)
        assert tile_cache.get_cache_stats()["prefetch_queue"] == 8
        assert server.stats().requests == 4
        tile_cache.close()
        asking.join()


def closed(tile_cache: R2TileCache, tiles: list) -> None:
    with pytest.raises(tilehaul.UnreachableError):
        tile_cache.fetch_tiles_parallel_sync(tiles)


def test_nothing_is_fetched_ahead_of_a_server_that_asks_for_less() -> None:
    faults = Faults(errors={429: 1.0}, retry_after=RetryAfter(delay_s=3600))
    with MockThread(MockSettings(faults=faults)) as server, cache_at(server) as tile_cache:
        tile_cache.fetch_tiles_parallel_sync(TILES[:1])
        tile_cache.queue_prefetch(1, 6, 10, 10)
        settle(tile_cache)
        assert tile_cache.get_cache_stats()["prefetch_queue"] == 8
        assert server.stats().requests == 1


def test_queue_is_bounded_and_the_newest_goes_first(server: MockThread) -> None:
    server.set_faults(Faults(shares={"black_hole": 1.0}))
    with cache_at(server, thread_workers=1) as tile_cache:
        for x in (100, 200, 300):
            tile_cache.queue_prefetch(1, 12, x, 100, tiles_ahead=400, format="png")
        settle(tile_cache)
        assert 499 <= tile_cache.get_cache_stats()["prefetch_queue"] <= 500
        assert tile_cache._ahead.take().tile_id in {
            tilehaul.TileId(12, 300 + dx, 100 + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)
        }
        with pytest.raises(ValueError, match="tiles_ahead"):
            tile_cache.queue_prefetch(1, 6, 1, 1, -1)
        with pytest.raises(tilehaul.PlanError):
            tile_cache.queue_prefetch(1, -1, 1, 1)
