"""The disk cache: it outlasts the process, keeps its bytes, and never stands in anybody's way."""

import logging
import sqlite3
from dataclasses import replace

import pytest

from tilehaul.errors import ConfigError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import Freshness
from tilehaul.ports.tile import Tile
from tilehaul.stores import disk_cache
from tilehaul.stores.disk_cache import DiskCache
from tilehaul.stores.disk_cache_file import ENTRY_OVERHEAD_BYTES, FILE_NAME, DiskCacheFile

NOW_S = 1.7e9
LASTING = Freshness(1e6)
ENTRY = 10_000 + ENTRY_OVERHEAD_BYTES


def tile(x, size=10_000):
    return Tile(TileId(20, x, 0), bytes([x % 256]) * size, "image/png", freshness=LASTING)


class Opened:
    def __init__(self, folder, bytes_max=100_000_000):
        self.cache = DiskCache(folder, bytes_max, wall_s=lambda: NOW_S)

    async def __aenter__(self):
        await self.cache.open()
        return self.cache

    async def __aexit__(self, *_):
        await self.cache.aclose()


async def there(cache, tiles):
    return [await cache.find("a", TileId(20, x, 0)) is not None for x in tiles]


async def test_warm_restart(tmp_path):
    """What was kept is there after the end, also what was on its way when it came."""
    async with Opened(tmp_path) as cache:
        cache.keep("a", tile(1))
    async with Opened(tmp_path) as cache:
        assert await cache.find("a", TileId(20, 1, 0)) == replace(tile(1), place="disk")
        assert (cache.stats().tiles, cache.stats().bytes) == (1, ENTRY)


async def test_bytes_are_kept_and_the_popular_survive(tmp_path):
    """Never more than the limit, and a tile asked for between outlives a scan of five times the cache."""
    async with Opened(tmp_path, 10 * ENTRY) as cache:
        cache.keep("a", tile(0))
        for x in range(1, 50):
            await cache.sizes()
            assert await there(cache, [0]) == [True]
            cache.keep("a", tile(x))
        await cache.sizes()
        assert cache.stats().bytes <= 10 * ENTRY
        assert cache.stats().evictions == 40
        assert await there(cache, [0, 1, 49]) == [True, False, True]


async def test_limit_that_was_lowered_holds_from_the_start(tmp_path):
    """Opened with less room: evicted before anything is asked, and the disk gets its room back."""
    async with Opened(tmp_path) as cache:
        for x in range(100):
            cache.keep("a", tile(x))
    before = (tmp_path / FILE_NAME).stat().st_size
    async with Opened(tmp_path, 10 * ENTRY) as cache:
        assert (cache.stats().tiles, cache.stats().evictions) == (10, 90)
    assert (tmp_path / FILE_NAME).stat().st_size < before / 5


async def test_file_takes_no_more_than_is_counted(tmp_path):
    """The overhead that is counted covers rows, index and unused ends of pages, for small tiles and large."""
    for size in (100, 1_000, 5_000, 20_000):
        folder = tmp_path / str(size)
        async with Opened(folder) as cache:
            for x in range(1_000):
                cache.keep("a", tile(x, size))
            await cache.sizes()
            counted = cache.stats().bytes
        # Sqlite's own first pages aside; a page is 4 KiB, so a body may leave one half empty.
        assert (folder / FILE_NAME).stat().st_size <= counted * 1.1 + 65_536, size


async def test_tile_larger_than_the_cache_is_not_kept(tmp_path):
    async with Opened(tmp_path, ENTRY) as cache:
        cache.keep("a", tile(1, 10_001))
        cache.keep("a", tile(2))
        await cache.sizes()
        assert await there(cache, [1, 2]) == [False, True]


async def test_what_comes_faster_than_the_disk_is_dropped(tmp_path, monkeypatch):
    """Bounded on its way: what does not fit is asked for again one day."""
    monkeypatch.setattr(disk_cache, "PENDING_BYTES_MAX", 2 * ENTRY)
    async with Opened(tmp_path) as cache:
        for x in range(3):
            cache.keep("a", tile(x))
        assert await there(cache, range(3)) == [True, True, False]
        await cache.sizes()
        cache.keep("a", tile(2))
        assert await there(cache, range(3)) == [True, True, True]


async def test_flipped_bit_is_not_given(tmp_path):
    """Nothing corrupt is kept: a body that is not what was written is not found."""
    async with Opened(tmp_path) as cache:
        cache.keep("a", tile(1))
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE tiles SET body = ?", (b"\0" + b"\1" * 9_999,))
    db.close()
    async with Opened(tmp_path) as cache:
        assert await there(cache, [1]) == [False]
        cache.keep("a", tile(1))
        await cache.sizes()
        assert await there(cache, [1]) == [True]


@pytest.mark.parametrize("damage", ["words", "half", "other", "version"])
async def test_damaged_or_foreign_file_is_begun_anew(tmp_path, caplog, damage):
    """With one line in the log; the service starts."""
    path = tmp_path / FILE_NAME
    async with Opened(tmp_path) as cache:
        for x in range(20):
            cache.keep("a", tile(x))
    if damage == "words":
        path.write_bytes(b"no database" * 1000)
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:50_000])
    elif damage == "version":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE poems (line)")
        db.close()
    with caplog.at_level(logging.WARNING):
        async with Opened(tmp_path) as cache:
            cache.keep("a", tile(1))
            await cache.sizes()
            assert await there(cache, [1]) == [True]
    assert sum("begun anew" in record.message for record in caplog.records) == 1


async def test_page_damaged_later_is_begun_anew(tmp_path, caplog):
    """Damage that shows only when a tile is read: what is kept after that is found."""
    async with Opened(tmp_path) as cache:
        for x in range(100):
            cache.keep("a", tile(x))
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    data[40_000:400_000] = b"\xee" * 360_000
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        async with Opened(tmp_path) as cache:
            assert not any(await there(cache, range(0, 100, 3)))
            for x in range(100):
                cache.keep("a", tile(x))
            await cache.sizes()
            assert all(await there(cache, range(100)))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("noticed_by", ["a write", "a look"])
async def test_a_file_that_was_removed_is_made_again(tmp_path, caplog, noticed_by):
    """Not written to for ever where nobody can open it; another process that has made it is joined."""
    async with Opened(tmp_path) as one, Opened(tmp_path) as other:
        for name in tmp_path.iterdir():
            name.unlink()
        for cache in (one, other):
            if noticed_by == "a write":
                cache.keep("a", tile(7))
                await cache._write()
            assert await cache.usable()
        one.keep("a", tile(1))
        other.keep("a", tile(2))
        for cache in (one, other):
            await cache.sizes()
        assert await there(one, [1, 2]) == await there(other, [1, 2]) == [True, True]
    assert sum("was removed" in record.message for record in caplog.records) == 2
    async with Opened(tmp_path) as cache:
        assert await there(cache, [1, 2]) == [True, True]


async def test_two_processes_share_a_file(tmp_path):
    """What one keeps the other finds, and their bytes are counted together."""
    async with Opened(tmp_path, 10 * ENTRY) as one, Opened(tmp_path, 10 * ENTRY) as other:
        for x in range(8):
            one.keep("a", tile(x))
            other.keep("a", tile(100 + x))
            await one.sizes()
            await other.sizes()
        assert await there(other, [7, 107]) == await there(one, [7, 107]) == [True, True]
        assert other.stats().bytes <= 10 * ENTRY
        assert other.stats().tiles == 10


async def test_folder_that_refuses_stops_the_start(tmp_path):
    """A folder that cannot be made is named, with its key."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cache\.path"):
        await DiskCache(tmp_path / "file" / "in", 1000, wall_s=lambda: NOW_S).open()


async def test_disk_that_refuses_later_costs_nothing_but_the_cache(tmp_path, caplog):
    """Said once; tiles are asked for again."""
    async with Opened(tmp_path) as cache:
        blocker = sqlite3.connect(tmp_path / FILE_NAME)
        blocker.execute("DROP TABLE tiles")
        blocker.commit()
        blocker.close()
        with caplog.at_level(logging.WARNING):
            for x in range(2):
                cache.keep("a", tile(x))
                with pytest.raises(StorageError):
                    await cache.sizes()
                assert await there(cache, [x]) == [False]
    assert len(caplog.records) == 1


def test_no_bytes_is_a_wrong_setting(tmp_path):
    with pytest.raises(ConfigError, match=r"cache\.disk"):
        DiskCache(tmp_path, 0, wall_s=lambda: NOW_S)


def test_clock_that_was_set_back_makes_no_tile_younger_than_new(tmp_path):
    now_s = [NOW_S]
    file = DiskCacheFile(tmp_path / "f", 1_000_000, lambda: now_s[0])
    file.write({("a", 20, 1, 0): tile(1)}, ())
    now_s[0] -= 86_400.0
    _, found = file.find(("a", 20, 1, 0))
    assert found.freshness == LASTING
    file.close()
