"""A tile past its freshness costs a "not modified", and each answer carries what its origin said."""

from dataclasses import replace

import pytest

from doubles.clock import VirtualClock
from doubles.wire import PNG, ScriptedWire, answer
from tilehaul.errors import BrokenError
from tilehaul.grid.tile_id import TileId
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.freshness import UNKEPT, Freshness, FreshnessRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.revalidated import RevalidatedSource
from tilehaul.sources.xyz import XyzSource

HERE = TileId(3, 1, 2)


@pytest.fixture
def wire():
    return ScriptedWire()


@pytest.fixture
def source(wire):
    """With what is known as its attribute `known`."""
    clock = VirtualClock()
    xyz = XyzSource.opener("http://origin.test/{z}/{x}/{y}.png")(VerifiedSender(wire, clock, Tally()))
    known = []

    async def find(tile_id):
        return known[-1] if known and tile_id == HERE else None

    source = RevalidatedSource(xyz, known=find, rule=FreshnessRule(), clock=clock)
    source.known = known
    source.identity = xyz.info.identity
    return source


def conditions(wire):
    names = ("If-None-Match", "If-Modified-Since")
    return [[pair for pair in request.headers if pair[0] in names] for request in wire.requests]


async def test_unchanged_tile_is_renewed_without_its_bytes(source, wire):
    """One request, conditional by the tag it came with; the bytes are those kept, the lifetime is new."""
    wire.then = answer(etag='"a"', cache_control="max-age=5", age="2")
    first = await source.get(HERE)
    assert first.freshness == Freshness(5.0, 2.0, 60.0, 604_800.0, '"a"', "", source.identity)
    source.known.append(replace(first, place="memory"))
    wire.then = answer(304, b"", cache_control="max-age=9")
    again = await source.get(HERE)
    assert again.body is first.body
    assert again.place == "origin"
    # The 304 did not repeat the tag: it stays.
    assert again.freshness == Freshness(9.0, 0.0, 60.0, 604_800.0, '"a"', "", source.identity)
    assert conditions(wire) == [[], [("If-None-Match", '"a"')]]


async def test_changed_tile_takes_the_place_of_the_old(source, wire):
    wire.then = answer(last_modified="then")
    source.known.append(replace(await source.get(HERE), body=b"old"))
    again = await source.get(HERE)
    assert again.body == PNG
    assert conditions(wire) == [[], [("If-Modified-Since", "then")]]


async def test_another_origins_words_are_not_used(source, wire):
    """A tag means nothing to an origin that did not give it."""
    other = Freshness(0.0, etag='"a"', source="another")
    source.known.append(Tile(HERE, PNG, "image/png", freshness=other))
    await source.get(HERE)
    assert conditions(wire) == [[]]


async def test_not_modified_that_nobody_asked_for_is_a_failure(source, wire):
    wire.then = answer(304, b"")
    with pytest.raises(BrokenError):
        await source.get(HERE)


async def test_what_must_not_be_kept_says_so(source, wire):
    wire.then = answer(cache_control="private")
    assert (await source.get(HERE)).freshness == UNKEPT


async def test_absence_and_what_is_out_of_range_pass(source, wire):
    wire.then = answer(404, b"")
    assert await source.get(HERE) == NoTile(HERE, "http_404")
    assert await source.get(TileId(1, 5, 0)) == NoTile(TileId(1, 5, 0), "out_of_range")
    assert len(wire.requests) == 1
