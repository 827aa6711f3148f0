"""`seed_tiles`, and a map service of an add-on that uses the pool as the old guide shows."""

import threading
import time
from collections.abc import Sequence

import pytest

from tilehaul.compat.threads import (
    CancellableThreadPool,
    close_connections,
    download,
    download_tile_safe,
    seed_tiles,
    seeding,
)
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

LONG_S = 30.0
ME = "my-addon/1.0 (me@example.com)"
Place = tuple[int, int, int]


class Cache:
    """What an add-on has: bound to the thread that made it, as SQLite is."""

    def __init__(self) -> None:
        self.tiles: dict[Place, bytes] = {}
        self.puts: list[int] = []
        self.asked: list[int] = []
        self._owner = threading.get_ident()

    def list_missing_tiles(self, tiles: Sequence[Place]) -> list[Place]:
        assert threading.get_ident() == self._owner
        self.asked.append(len(tiles))
        return [tile for tile in tiles if tile not in self.tiles]

    def put_tiles(self, tiles: Sequence[tuple[int, int, int, bytes]]) -> None:
        assert threading.get_ident() == self._owner
        self.puts.append(len(tiles))
        for col, row, zoom, data in tiles:
            self.tiles[col, row, zoom] = data


class OldCache:
    """The same under its older names."""

    def __init__(self, cache: Cache) -> None:
        self.listMissingTiles = cache.list_missing_tiles
        self.putTiles = cache.put_tiles


class Service:
    """What an add-on has: tiles of a server, by column, row and zoom."""

    def __init__(self, server: MockThread) -> None:
        self.server = server

    def tile_request(self, col: int, row: int, zoom: int) -> bytes | None:
        url = f"{self.server.base_url}/{zoom}/{col}/{row}.png"
        success, data, error = download_tile_safe(url, ME)
        if not success:
            raise OSError(error)
        return data


GRID = [(col, row, 4) for col in range(16) for row in range(16)]


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "DELAY_S_FIRST", 0.001)
    yield
    close_connections()
    wait_for_workers()
    assert not any(thread.name.startswith("tilehaul") for thread in threading.enumerate())


def wait_for_workers() -> None:
    """Until they have nothing left to do: then they end."""
    until_s = time.monotonic() + LONG_S
    while any(thread.name == "tilehaul-worker" for thread in threading.enumerate()):
        assert time.monotonic() < until_s
        time.sleep(0.001)


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


def test_missing_tiles_are_fetched_once_and_put_in_batches() -> None:
    cache, told = Cache(), []
    cache.tiles[0, 0, 4] = b"there before"
    with MockThread() as server:
        result = seed_tiles(
            Service(server), cache, GRID, nb_thread=5, progress=lambda done, total: told.append((done, total))
        )
        assert {server.requests_of(f"4/{col}/{row}") for col, row, _ in GRID[1:]} == {1}
        assert server.requests_of("4/0/0") == 0
        assert all(cache.tiles[tile] == server.body_of(f"4/{tile[0]}/{tile[1]}") for tile in GRID[1:])
    assert (result.total, result.present, result.stored, result.absent, result.failed) == (256, 1, 255, 0, 0)
    assert (result.pending, result.errors) == (0, ())
    assert told == sorted(told)
    assert told[-1] == (256, 256)
    assert sum(cache.puts) == 255


def test_more_threads_than_the_older_program_had_are_none_more(gate: threading.Event) -> None:
    """As it was: a service is never asked for more than five tiles at once."""
    lock, now, most = threading.Lock(), 0, 0

    def request(col: int, row: int, zoom: int) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        # The last to come lets all go; a sixth would come before them.
        if now == 5:
            gate.set()
        gate.wait(5)
        with lock:
            now -= 1
        return b"tile"

    assert seed_tiles(request, Cache(), GRID, nb_thread=50).stored == 256
    assert most == 5


def test_tiles_without_a_length_are_named() -> None:
    with pytest.raises(TypeError, match="tiles: a generator has no length"):
        seed_tiles(lambda *_: b"", Cache(), (tile for tile in GRID))


def test_every_tile_is_present_stored_absent_or_failed_and_a_second_run_mends() -> None:
    settings = MockSettings(faults=Faults(errors={403: 0.2}), absence=Absence(share=0.2), seed=5)
    cache = Cache()
    with MockThread(settings) as server:
        result = seed_tiles(Service(server), cache, GRID)
        assert result.pending == 0
        assert result.failed == len(result.errors) > 0
        failed = {place for place, _ in result.errors}
        absent = {(x, y, z) for x, y, z in GRID if server.is_absent(f"{z}/{x}/{y}")}
        assert result.absent == len(absent - failed) > 0
        assert result.stored == len(cache.tiles)
        assert all("403" in str(error) and place not in cache.tiles for place, error in result.errors)
        server.set_faults(Faults())
        again = seed_tiles(Service(server), cache, GRID)
    assert (again.present, again.failed, again.absent) == (result.stored, 0, len(absent))
    assert again.stored == len(failed - absent)


def test_function_as_source_and_older_names_of_the_cache() -> None:
    cache = Cache()
    result = seed_tiles(lambda col, row, zoom: bytes((col, row, zoom)), OldCache(cache), GRID[:20])
    assert result.stored == 20
    assert cache.tiles[0, 7, 4] == b"\0\7\4"


def test_memory_is_bounded_and_a_slow_cache_holds_the_threads_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles fetched and not yet put: never more than a batch and what the threads hold."""
    monkeypatch.setattr(seeding, "PUT_TILES_MAX", 50)
    fetched, most, lock = [0], [0], threading.Lock()
    cache = Cache()
    put = cache.put_tiles

    def request(_col: int, _row: int, _zoom: int) -> bytes:
        with lock:
            fetched[0] += 1
            most[0] = max(most[0], fetched[0] - len(cache.tiles))
        return b"tile"

    def slow_put(tiles: Sequence[tuple[int, int, int, bytes]]) -> None:
        time.sleep(0.005)
        put(tiles)

    cache.put_tiles = slow_put
    many = [(col, row, 7) for col in range(60) for row in range(20)]
    assert seed_tiles(request, cache, many, nb_thread=4).stored == 1200
    assert most[0] <= seeding.PUT_TILES_MAX + 4 * seeding.TASKS_PER_THREAD
    assert max(cache.puts) <= seeding.PUT_TILES_MAX
    assert max(cache.asked) == seeding.PAGE_TILES


def test_big_tiles_are_put_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "PUT_BYTES_MAX", 1000)
    cache = Cache()
    seed_tiles(lambda *_: bytes(400), cache, GRID[:30])
    assert max(cache.puts) == 3


def test_cancel_keeps_what_came_and_a_second_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "PUT_TILES_MAX", 20)
    cancel, cache = threading.Event(), Cache()

    def progress(done: int, _total: int) -> None:
        if done > 0:
            cancel.set()

    with MockThread() as server:
        result = seed_tiles(Service(server), cache, GRID, 2, progress, cancel)
        assert 0 < result.stored < 256
        assert result.pending == 256 - result.stored
        again = seed_tiles(Service(server), cache, GRID)
        assert (again.present, again.pending) == (result.stored, 0)
    assert len(cache.tiles) == 256


def test_what_came_while_the_cache_was_written_is_kept_when_cancelled(monkeypatch) -> None:
    monkeypatch.setattr(seeding, "PUT_TILES_MAX", 1)
    cancel = threading.Event()

    class Slow(Cache):
        def put_tiles(self, tiles: Sequence[tuple[int, int, int, bytes]]) -> None:
            wait_for_workers()
            cancel.set()
            super().put_tiles(tiles)

    result = seed_tiles(lambda *_: b"tile", Slow(), GRID, 1, cancel=cancel)
    assert result.stored == seeding.TASKS_PER_THREAD


def test_tiles_are_put_although_the_next_ones_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "PUT_S_MAX", 0.01)
    put = threading.Event()

    class Told(Cache):
        def put_tiles(self, tiles: Sequence[tuple[int, int, int, bytes]]) -> None:
            super().put_tiles(tiles)
            put.set()

    def request(col: int, row: int, _zoom: int) -> bytes:
        assert (col, row) == (0, 0) or put.wait(10)
        return b"tile"

    assert seed_tiles(request, Told(), GRID[:2], 1).stored == 2


def test_cancel_before_the_start_asks_for_nothing() -> None:
    cancel, cache = threading.Event(), Cache()
    cancel.set()
    result = seed_tiles(lambda *_: b"tile", cache, GRID, cancel=cancel)
    assert (result.pending, cache.asked, cache.puts) == (256, [], [])


def test_cancel_is_heeded_while_every_thread_hangs(gate: threading.Event) -> None:
    cancel = threading.Event()
    began = threading.Semaphore(0)

    def request(*_place: int) -> bytes:
        began.release()
        gate.wait(LONG_S)
        return b"late"

    def press() -> None:
        for _ in range(2):
            began.acquire(timeout=LONG_S)
        cancel.set()

    other = threading.Thread(target=press)
    other.start()
    cache = Cache()
    result = seed_tiles(request, cache, GRID, 2, cancel=cancel)
    other.join()
    assert (result.pending, cache.tiles) == (256, {})


def test_tile_that_hangs_fails_and_the_others_come(gate: threading.Event) -> None:
    def request(col: int, row: int, _zoom: int) -> bytes:
        if (col, row) == (0, 0):
            gate.wait(LONG_S)
        return b"tile"

    result = seed_tiles(request, Cache(), GRID[:20], 1, timeout=0.1)
    assert (result.stored, result.failed) == (19, 1)
    assert isinstance(result.errors[0][1], TimeoutError)


def test_progress_that_raises_passes_on_and_what_came_is_put() -> None:
    cache = Cache()
    cache.tiles[0, 0, 4] = b"there"

    def progress(_done: int, _total: int) -> None:
        raise LookupError("the window is gone")

    with pytest.raises(LookupError, match="the window is gone"):
        seed_tiles(lambda *_: b"tile", cache, GRID[:30], 1, progress)
    assert sum(cache.puts) == len(cache.tiles) - 1


def test_cache_that_fails_ends_the_run_with_its_own_error() -> None:
    class Full(Cache):
        def put_tiles(self, tiles: Sequence[tuple[int, int, int, bytes]]) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        seed_tiles(lambda *_: b"tile", Full(), GRID)


def test_failures_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "ERRORS_KEPT_MAX", 3)
    result = seed_tiles(lambda *_: "text", Cache(), GRID[:10])
    assert (result.failed, len(result.errors)) == (10, 3)
    assert "str" in str(result.errors[0][1])


@pytest.mark.parametrize(
    ("error", "source", "cache", "options"),
    [
        (ValueError, bytes, Cache(), {"nb_thread": 0}),
        (ValueError, bytes, Cache(), {"timeout": 0}),
        (ValueError, bytes, Cache(), {"tiles": [(1, 2)]}),
        (TypeError, "https://host/{z}/{x}/{y}.png", Cache(), {}),
        (TypeError, bytes, object(), {}),
        (TypeError, bytes, Cache(), {"tiles": iter(())}),
    ],
)
def test_bad_arguments_are_refused(error: type[Exception], source, cache, options) -> None:
    with pytest.raises(error):
        seed_tiles(source, cache, **{"tiles": GRID, **options})


class MapService:
    """An add-on's service whose seeding was written to the old pool: only the import differs."""

    def __init__(self, server: MockThread, cache: Cache) -> None:
        self.service, self.cache = Service(server), cache
        self.lock = threading.Lock()
        self.running = True
        self.status = self.nb_tiles = self.cpt_tiles = 0
        self.cancel_after: int | None = None
        self.progress_seen: list[int] = []

    def seed(self, tiles: list[Place], nb_thread: int = 10) -> None:
        self.nb_tiles, self.cpt_tiles, self.status = len(tiles), 0, 1
        try:
            missing = self.cache.list_missing_tiles(tiles)
            self.cpt_tiles += len(tiles) - len(missing)
            self.status = 2
            pool = CancellableThreadPool(max_workers=min(nb_thread, 5), timeout=30)
            found: list[tuple[int, int, int, bytes]] = []
            for place in missing:
                pool.submit_task(self._download, place, found)
            try:
                pool.wait_completion(callback_progress=lambda done, _total: self._tell(pool, done))
            except RuntimeError:
                return
            with self.lock:
                self.cache.put_tiles(found)
        finally:
            self.status = 0

    def _download(self, place: Place, found: list[tuple[int, int, int, bytes]]) -> None:
        data = self.service.tile_request(*place)
        if data is not None:
            found.append((*place, data))
        self.cpt_tiles += 1

    def _tell(self, pool: CancellableThreadPool, done: int) -> None:
        self.progress_seen.append(done)
        if self.cancel_after == done:
            self.running = False
        if not self.running:
            pool.cancel()


def test_map_service_of_an_add_on_runs_with_only_its_import_changed() -> None:
    cache = Cache()
    with MockThread() as server:
        service = MapService(server, cache)
        service.seed(GRID[:60])
        assert cache.tiles == {place: server.body_of(f"4/{place[0]}/{place[1]}") for place in GRID[:60]}
        assert service.progress_seen == list(range(1, 61))
        assert service.cpt_tiles == service.nb_tiles == 60
        service.cancel_after, service.progress_seen = 5, []
        service.seed(GRID)
        assert service.progress_seen == [1, 2, 3, 4, 5]
        assert (service.status, len(cache.tiles)) == (0, 60)
