"""Find before ask; keep answers, never errors; fall back on what was known."""

import asyncio
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
from tilehaul.policy.freshness import REVALIDATE_S, STALE_S, UNKEPT, Freshness, FreshnessRule
from tilehaul.ports.correlation import AT_HAND
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.background import Background
from tilehaul.sources.cached import CachedSource
from tilehaul.sources.coalesced import Flights
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


# Nothing is renewed behind anybody's back unless a test says so.
PLAIN = FreshnessRule(revalidate_s=0.0)


def cached(origin, clock, *, cache=None, layer="a", luck=0.5, rule=PLAIN, background=None, flights=None):
    return CachedSource(
        origin,
        cache=cache or MemoryCache(now_s=clock.now_s),
        layer=layer,
        rule=rule,
        luck=lambda: luck,
        background=background or Background(),
        flights=flights,
    )


TILE = Tile(HERE, b"picture", "image/png")


async def test_second_question_is_answered_from_memory(clock):
    """One request for two questions; the second answer says where it was found."""
    origin = ScriptedOrigin(TILE)
    source = cached(origin, clock)
    assert await source.get(HERE) == TILE
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
    assert await source.get(HERE) == TILE


async def test_outage_is_not_kept(clock):
    """Failure is not absence: after an error the origin is asked at once again."""
    origin = ScriptedOrigin(BrokenError("failed"), TILE)
    source = cached(origin, clock)
    with pytest.raises(BrokenError):
        await source.get(HERE)
    assert await source.get(HERE) == TILE


async def test_a_tile_that_was_renewed_behind_two_caches_is_fresh(clock):
    """The one behind gave it stale, once; what memory has afterwards is as fresh as its origin said."""
    rule = FreshnessRule(tile_s=10.0, revalidate_s=60.0)
    caches = [MemoryCache(now_s=clock.now_s) for _ in range(2)]
    background = Background()
    origin = ScriptedOrigin(TILE, TILE, TILE)
    behind = cached(origin, clock, cache=caches[0], rule=rule, background=background)
    # As after a restart: memory is empty, the disk's tile is past its freshness.
    await behind.get(HERE)
    clock.time_s += 11.0
    source = cached(behind, clock, cache=caches[1], rule=rule, background=background)
    assert (await source.get(HERE)).stale == "unasked"
    assert caches[1].look_now("a", HERE).stale == ""
    while background.running:
        await asyncio.sleep(0)
    # From then on one asker is enough for both.
    for number in range(2):
        clock.time_s += 11.0 * number
        assert (await source.get(HERE)).stale == "unasked"
        while background.running:
            await asyncio.sleep(0)
        again = await source.get(HERE)
        assert (again.stale, again.place, again.freshness.left_s) == ("", "memory", 10.0)
    assert origin.asked == 3


async def test_layers_share_a_cache_without_mixing(clock):
    """The same address in two layers are two tiles."""
    cache = MemoryCache(now_s=clock.now_s)
    other = Tile(HERE, b"other", "image/png")
    first = cached(ScriptedOrigin(TILE), clock, cache=cache, layer="a")
    second = cached(ScriptedOrigin(other), clock, cache=cache, layer="b")
    await first.get(HERE)
    assert await second.get(HERE) == other
    assert cache.stats().tiles == 2


async def test_info_is_the_origins(clock):
    """What is known of the source passes through."""
    origin = ScriptedOrigin()
    assert cached(origin, clock).info is origin.info


HELD_AT_ONCE = ThrottledError("x", cause="held", attempts=1)
HELD_AFTER_ONE = ThrottledError("x", cause="held", attempts=2)


@pytest.mark.parametrize(
    ("error", "asked_it"),
    [
        (BusyError("x"), "unasked"),
        (HELD_AT_ONCE, "unasked"),
        (HELD_AFTER_ONE, "asked"),
        (ThrottledError("x", cause="http_429"), "asked"),
        (BrokenError("x"), "asked"),
        (UnreachableError("x"), "asked"),
        (TimedOutError("x", phase="idle"), "asked"),
        (DataError("x", cause="error_page"), "asked"),
    ],
)
async def test_stale_tile_stands_in_for_an_origin_that_fails(clock, error, asked_it):
    """Past its freshness the origin is asked first, each time; its failure brings what was known."""
    origin = ScriptedOrigin(TILE, error, error, other := replace(TILE, body=b"other"))
    source = cached(origin, clock)
    await source.get(HERE)
    clock.time_s += 3600.0
    for asked in (2, 3):
        assert await source.get(HERE) == replace(TILE, place="memory", stale=asked_it)
        assert origin.asked == asked
    assert await source.get(HERE) == other
    assert await source.get(HERE) == replace(other, place="memory")


@pytest.mark.parametrize("error", [DeniedError("x"), RefusedError("x"), StorageError("x")])
async def test_no_of_an_origin_is_heard(clock, error):
    """Who may not have a tile any more is not given an old one; a broken disk here is told too."""
    source = cached(ScriptedOrigin(TILE, error), clock)
    await source.get(HERE)
    clock.time_s += 3600.0
    with pytest.raises(type(error)):
        await source.get(HERE)


@pytest.mark.parametrize("then_s", [3600.0 + STALE_S - 0.1, 3600.0 + STALE_S])
async def test_stale_tile_has_its_week(clock, then_s):
    """A week past its freshness the failure is told again."""
    source = cached(ScriptedOrigin(TILE, BrokenError("x")), clock)
    await source.get(HERE)
    clock.time_s += then_s
    if then_s < 3600.0 + STALE_S:
        assert (await source.get(HERE)).stale == "asked"
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
    cache = MemoryCache(now_s=clock.now_s)
    source = cached(origin := ScriptedOrigin(), clock, cache=cache)

    async def get(tile_id: TileId) -> Tile | NoTile:
        cache.keep("a", replace(TILE, freshness=Freshness(9.0)))
        raise BrokenError("x")

    origin.get = get
    assert await source.get(HERE) == replace(TILE, place="memory")


async def test_tile_soon_past_its_freshness_is_renewed_meanwhile(clock):
    """Given at once, asked for once however many ask; the next has the new one, without a wait."""
    origin = ScriptedOrigin(TILE, other := replace(TILE, body=b"other"))
    background = Background()
    source = cached(origin, clock, rule=FreshnessRule(), background=background)
    await source.get(HERE)
    clock.time_s += 3600.0 + REVALIDATE_S - 0.1
    for _ in range(3):
        assert await source.get(HERE) == replace(TILE, place="memory", stale="unasked")
    assert background.running == 1
    while background.running:
        await asyncio.sleep(0)
    assert origin.asked == 2
    assert await source.get(HERE) == replace(other, place="memory")


async def test_renewing_that_fails_disturbs_nobody(clock):
    """The stale one goes on standing in; an origin that says no is heard by the first who waits for it."""
    origin = ScriptedOrigin(TILE, DeniedError("x"), DeniedError("x"))
    background = Background()
    source = cached(origin, clock, rule=FreshnessRule(), background=background)
    await source.get(HERE)
    clock.time_s += 3600.0
    await source.get(HERE)
    while background.running:
        await asyncio.sleep(0)
    clock.time_s += REVALIDATE_S
    with pytest.raises(DeniedError):
        await source.get(HERE)
    assert origin.asked == 3


async def test_who_finds_no_room_in_the_background_need_not_wait(clock):
    """Bounded: what is one too many to be renewed now is given all the same, and renewed by a later asker."""
    background = Background(running_max=1)
    stuck = asyncio.Event()
    background.start("other", stuck.wait)
    origin = ScriptedOrigin(TILE)
    source = cached(origin, clock, rule=FreshnessRule(), background=background)
    await source.get(HERE)
    clock.time_s += 3600.0
    assert await source.get(HERE) == replace(TILE, place="memory", stale="unasked")
    assert (origin.asked, background.running) == (1, 1)
    await background.aclose()
    assert background.running == 0
    assert not background.start("more", stuck.wait)


async def test_what_was_asked_for_before_a_purge_is_not_kept_after_it(clock):
    """Nor shared by who asks after it: whoever purges knows that the origin has changed."""
    purged, doors = [-1.0], []

    class Origin:
        info = SourceInfo(name="o", identity="o")

        async def get(self, tile_id):
            doors.append(asyncio.get_running_loop().create_future())
            return await doors[-1]

    flights = Flights(forgotten_s=lambda: purged[0])
    cache = MemoryCache(now_s=clock.now_s)
    source = CachedSource(
        Origin(),
        cache=cache,
        layer="a",
        rule=PLAIN,
        luck=lambda: 0.5,
        background=Background(),
        flights=flights,
        forgotten_s=lambda: purged[0],
    )
    before = asyncio.create_task(source.get(HERE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    purged[0] = 7.0
    assert flights.board(HERE, lambda _: None) is None
    after = [asyncio.create_task(source.get(HERE)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    old, new = doors
    new.set_result(replace(TILE, body=b"new"))
    assert [(await asked).body for asked in after] == [b"new", b"new"]
    old.set_result(TILE)
    assert (await before).body == TILE.body
    assert cache.look_now("a", HERE).body == b"new"
    assert flights.in_flight == 0


async def test_nobody_comes_between_landing_and_keeping(clock):
    """Whoever asks, at whatever turn of the loop around the end of the fetch, it stays the only one."""
    origin = ScriptedOrigin(TILE)
    flights = Flights[TileId, Tile | NoTile]()
    source = cached(origin, clock, flights=flights)
    askers = []
    for _ in range(10):
        askers.append(asyncio.create_task(source.get(HERE)))
        await asyncio.sleep(0)
    assert {answer.body for answer in await asyncio.gather(*askers)} == {b"picture"}
    assert origin.asked == 1
    await flights.aclose()


class HangingOrigin(ScriptedOrigin):
    """Answers the first question, and the others once it is `let_go`."""

    def __init__(self, *answers):
        super().__init__(*answers)
        self.let_go = asyncio.Event()
        self.given_up = 0

    async def get(self, tile_id):
        if self.asked:
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        return await super().get(tile_id)


async def test_stale_tile_stands_in_for_an_origin_that_hangs(clock, monkeypatch):
    """One waits as long as patience is; until that fetch ends the others are given theirs at once."""
    monkeypatch.setattr("tilehaul.sources.cached.PATIENCE_S", 0.0)
    origin = HangingOrigin(TILE, other := replace(TILE, body=b"other"))
    background = Background()
    source = cached(origin, clock, flights=Flights(), background=background)
    await source.get(HERE)
    clock.time_s += 3600.0
    assert await source.get(HERE) == replace(TILE, place="memory", stale="asked")
    monkeypatch.setattr("tilehaul.sources.cached.PATIENCE_S", 1e9)
    for _ in range(3):
        assert await source.get(HERE) == replace(TILE, place="memory", stale="unasked")
    origin.let_go.set()
    while background.running:
        await asyncio.sleep(0)
    assert origin.asked == 2
    assert await source.get(HERE) == replace(other, place="memory")
    # It does not hang any more: who asks next waits for it.
    clock.time_s += 3600.0
    origin.let_go.clear()
    asker = asyncio.create_task(source.get(HERE))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asker.done()
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    assert origin.given_up == 1


async def test_fetch_nobody_has_room_for_is_given_up(clock, monkeypatch):
    """The stale tile is given all the same, and nothing is left under way."""
    monkeypatch.setattr("tilehaul.sources.cached.PATIENCE_S", 0.0)
    background, stuck = Background(running_max=1), asyncio.Event()
    background.start("other", stuck.wait)
    origin = HangingOrigin(TILE, TILE)
    source = cached(origin, clock, background=background)
    await source.get(HERE)
    clock.time_s += 3600.0
    assert await source.get(HERE) == replace(TILE, place="memory", stale="asked")
    assert (origin.given_up, background.running) == (1, 1)
    await background.aclose()


async def test_origin_is_told_whether_a_stale_tile_is_at_hand(clock):
    """Nothing to give, a tile to renew behind the asker's back, one to stand in, one that is too old to."""
    told = []

    class Listening(ScriptedOrigin):
        async def get(self, tile_id):
            told.append(AT_HAND.get())
            return await super().get(tile_id)

    background = Background()
    source = cached(
        Listening(TILE, TILE, TILE, TILE), clock, rule=FreshnessRule(stale_s=100.0), background=background
    )
    await source.get(HERE)
    clock.time_s += 3600.0
    await source.get(HERE)
    while background.running:
        await asyncio.sleep(0)
    for past_s in (REVALIDATE_S, 100.0):
        clock.time_s += 3600.0 + past_s
        await source.get(HERE)
        assert not AT_HAND.get()
    assert told == [False, True, True, False]


async def test_what_the_origin_says_of_its_tile_goes_before_the_rule(clock):
    """Its freshness and its age; and what it says must not be kept is not."""
    brief = replace(TILE, freshness=Freshness(100.0, age_s=40.0))
    never = replace(TILE, freshness=UNKEPT)
    origin = ScriptedOrigin(brief, never, never)
    source = cached(origin, clock)
    await source.get(HERE)
    clock.time_s += 59.0
    found = await source.get(HERE)
    assert (found.place, found.freshness) == ("memory", Freshness(100.0, age_s=99.0))
    clock.time_s += 1.0
    for asked in (2, 3):
        assert (await source.get(HERE)).place == "origin"
        assert origin.asked == asked
