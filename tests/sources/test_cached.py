"""Find before ask; keep answers, never errors; fall back on what was known."""

from dataclasses import replace

import pytest

from tilehaul.errors import (
    BrokenError,
    BusyError,
    DataError,
    DeniedError,
    RefusedError,
    StorageError,
    ThrottledError,
    TimedOutError,
    UnreachableError,
)
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import STALE_S_MAX, FreshnessRule
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.cached import CachedSource
from tilehaul.stores.memory_cache import MemoryCache

HERE = TileId(3, 1, 2)


class ScriptedOrigin:
    """Gives the next of its answers, or raises it."""

    info = SourceInfo(name="scripted", identity="scripted")

    def __init__(self, *answers: Tile | NoTile | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class HandClock:
    def __init__(self) -> None:
        self.time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s

    def wall_s(self) -> float:
        return 0.0

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("nobody should wait here")


@pytest.fixture
def clock():
    return HandClock()


def cached(origin, clock, *, cache=None, layer="a", luck=0.5, rule=None):
    return CachedSource(
        origin,
        cache=cache or MemoryCache(),
        layer=layer,
        rule=rule or FreshnessRule(),
        clock=clock,
        luck=lambda: luck,
    )


TILE = Tile(HERE, b"picture", "image/png")


async def test_second_question_is_answered_from_memory(clock):
    """One request for two questions; the second answer says where it was found."""
    origin = ScriptedOrigin(TILE)
    source = cached(origin, clock)
    assert await source.get(HERE) is TILE
    again = await source.get(HERE)
    assert (again.place, origin.asked) == ("memory", 1)
    assert isinstance(again, Tile)
    assert again.body is TILE.body


async def test_tile_is_asked_for_again_after_its_lifetime(clock):
    """After 3600 s the origin is asked again."""
    origin = ScriptedOrigin(TILE, TILE)
    source = cached(origin, clock)
    await source.get(HERE)
    clock.time_s += 3599.9
    await source.get(HERE)
    assert origin.asked == 1
    clock.time_s += 0.1
    assert (await source.get(HERE)).place == "origin"
    assert origin.asked == 2


@pytest.mark.parametrize(("luck", "lives_s"), [(0.0, 270.0), (0.5, 300.0)])
async def test_absence_lives_five_minutes_spread_by_luck(clock, luck, lives_s):
    """An absence is kept as an absence, for its own shorter time."""
    origin = ScriptedOrigin(NoTile(HERE, "http_404"), TILE)
    source = cached(origin, clock, luck=luck)
    await source.get(HERE)
    clock.time_s += lives_s - 0.1
    assert await source.get(HERE) == NoTile(HERE, "http_404", place="memory")
    clock.time_s += 0.2
    assert await source.get(HERE) is TILE


async def test_outage_is_not_kept(clock):
    """Failure is not absence: after an error the origin is asked at once again."""
    origin = ScriptedOrigin(BrokenError("failed"), TILE)
    source = cached(origin, clock)
    with pytest.raises(BrokenError):
        await source.get(HERE)
    assert await source.get(HERE) is TILE


async def test_layers_share_a_cache_without_mixing(clock):
    """The same address in two layers are two tiles."""
    cache = MemoryCache()
    other = Tile(HERE, b"other", "image/png")
    first = cached(ScriptedOrigin(TILE), clock, cache=cache, layer="a")
    second = cached(ScriptedOrigin(other), clock, cache=cache, layer="b")
    await first.get(HERE)
    assert await second.get(HERE) is other
    assert cache.stats().tiles == 2


async def test_info_is_the_origins(clock):
    """What is known of the source passes through."""
    origin = ScriptedOrigin()
    assert cached(origin, clock).info is origin.info


HELD_AT_ONCE = ThrottledError("x", cause="held", attempts=1)
HELD_AFTER_ONE = ThrottledError("x", cause="held", attempts=2)


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (BusyError("x"), "stale"),
        (HELD_AT_ONCE, "stale"),
        (HELD_AFTER_ONE, "stale_asked"),
        (ThrottledError("x", cause="http_429"), "stale_asked"),
        (BrokenError("x"), "stale_asked"),
        (UnreachableError("x"), "stale_asked"),
        (TimedOutError("x", phase="idle"), "stale_asked"),
        (DataError("x", cause="error_page"), "stale_asked"),
    ],
)
async def test_stale_tile_stands_in_for_an_origin_that_fails(clock, error, place):
    """Past its freshness the origin is asked first, each time; its failure brings what was known."""
    origin = ScriptedOrigin(TILE, error, error, other := replace(TILE, body=b"other"))
    source = cached(origin, clock)
    await source.get(HERE)
    clock.time_s += 3600.0
    for asked in (2, 3):
        assert await source.get(HERE) == replace(TILE, place=place)
        assert origin.asked == asked
    assert await source.get(HERE) is other
    assert await source.get(HERE) == replace(other, place="memory")


@pytest.mark.parametrize("error", [DeniedError("x"), RefusedError("x"), StorageError("x")])
async def test_no_of_an_origin_is_heard(clock, error):
    """Who may not have a tile any more is not given an old one; a broken disk here is told too."""
    source = cached(ScriptedOrigin(TILE, error), clock)
    await source.get(HERE)
    clock.time_s += 3600.0
    with pytest.raises(type(error)):
        await source.get(HERE)


@pytest.mark.parametrize("then_s", [3600.0 + STALE_S_MAX - 0.1, 3600.0 + STALE_S_MAX])
async def test_stale_tile_has_its_day(clock, then_s):
    """A day past its freshness the failure is told again."""
    source = cached(ScriptedOrigin(TILE, BrokenError("x")), clock)
    await source.get(HERE)
    clock.time_s += then_s
    if then_s < 3600.0 + STALE_S_MAX:
        assert (await source.get(HERE)).place == "stale_asked"
    else:
        with pytest.raises(BrokenError):
            await source.get(HERE)


async def test_absence_does_not_stand_in(clock):
    """An absence past its freshness is no answer: the failure is."""
    source = cached(ScriptedOrigin(NoTile(HERE, "http_404"), BrokenError("x")), clock)
    await source.get(HERE)
    clock.time_s += 300.0
    with pytest.raises(BrokenError):
        await source.get(HERE)


async def test_tile_kept_while_the_origin_failed_is_fresh(clock):
    """Another asker got it meanwhile: the answer is that one, and not called stale."""
    cache = MemoryCache()
    source = cached(origin := ScriptedOrigin(), clock, cache=cache)

    async def get(tile_id: TileId) -> Tile | NoTile:
        cache.keep("a", TILE, fresh_s=9.0, now_s=clock.time_s)
        raise BrokenError("x")

    origin.get = get
    assert await source.get(HERE) == replace(TILE, place="memory")
