"""Which condition goes out, exactly as the validator came."""

from dataclasses import dataclass, field

import pytest

from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.net.clock import SystemClock
from tilehaul.ports.freshness import Note, Notes
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request, Response
from tilehaul.sources.conditional import ConditionalSource, digest_of
from tilehaul.sources.xyz import XyzSource
from tilehaul.stores.memory import MemoryStore

TILE = TileId(3, 4, 2)
BODY = plain_png(TILE)
DATE = "Sat, 01 Nov 2025 10:00:00 GMT"


@dataclass
class Server:
    """304 to a condition, else the tile with its validators."""

    validators: dict[str, str]
    asked: list[dict[str, str]] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        headers = dict(request.headers)
        self.asked.append(headers)
        if headers.keys() & {"If-None-Match", "If-Modified-Since"}:
            return Response(request.url, 304, {}, b"")
        return Response(request.url, 200, self.validators, BODY, media_type="image/png")


@pytest.mark.parametrize(
    ("validators", "condition"),
    [
        ({"etag": '"a b"', "last-modified": DATE}, {"If-None-Match": '"a b"'}),
        ({"etag": "bare-1"}, {"If-None-Match": "bare-1"}),
        ({"etag": 'W/"weak"'}, {"If-None-Match": 'W/"weak"'}),
        ({"last-modified": DATE}, {"If-Modified-Since": DATE}),
        ({}, {}),
    ],
)
async def test_the_condition_is_what_came(validators: dict[str, str], condition: dict[str, str]) -> None:
    server, store, known, noted = Server(validators), MemoryStore(), Notes(), Notes()
    xyz = XyzSource.opener("http://127.0.0.1:9/{z}/{x}/{y}.png")(server)
    source = ConditionalSource(xyz, store, known, noted.__setitem__, SystemClock())
    first = await source.get(TILE)
    assert not isinstance(first, NoTile)
    await store.begin(JobKey("a", "a", "a", planned=1))
    await store.commit([first])
    note = noted[TILE]
    assert note[1:] == (
        validators.get("etag", ""),
        validators.get("last-modified", ""),
        digest_of(BODY, xyz.info.identity),
    )
    known[TILE] = note
    second = await source.get(TILE)
    assert not isinstance(second, NoTile)
    assert second.body == BODY
    assert (first.place, second.place) == ("origin", "unchanged" if condition else "origin")
    assert server.asked == [{}, condition]
    # A 304 without validators leaves those that were known.
    assert noted[TILE][1:] == note[1:]
    assert not known


async def test_a_tile_that_is_not_kept_after_all_is_asked_for_without_a_condition() -> None:
    server, noted = Server({"etag": '"1"'}), Notes()
    xyz = XyzSource.opener("http://127.0.0.1:9/{z}/{x}/{y}.png")(server)
    known = {TILE: Note(9.0, '"1"', "", digest_of(BODY, xyz.info.identity))}
    answer = await ConditionalSource(xyz, MemoryStore(), known, noted.__setitem__, SystemClock()).get(TILE)
    assert not isinstance(answer, NoTile)
    assert server.asked == [{"If-None-Match": '"1"'}, {}]


async def test_the_same_etag_of_another_source_is_not_believed() -> None:
    server, store, noted = Server({"etag": "1"}), MemoryStore(), Notes()
    xyz = XyzSource.opener("http://127.0.0.1:9/{z}/{x}/{y}.png")(server)
    await store.begin(JobKey("a", "a", "a", planned=1))
    await store.commit([Tile(TILE, BODY, "image/png")])
    known = {TILE: Note(9.0, "1", "", digest_of(BODY, "another"))}
    await ConditionalSource(xyz, store, known, noted.__setitem__, SystemClock()).get(TILE)
    assert server.asked == [{"If-None-Match": "1"}, {}]


async def test_outside_the_grid_nothing_is_asked() -> None:
    server, noted = Server({}), Notes()
    xyz = XyzSource.opener("http://127.0.0.1:9/{z}/{x}/{y}.png")(server)
    source = ConditionalSource(xyz, MemoryStore(), {}, noted.__setitem__, SystemClock())
    assert await source.get(TileId(0, 1, 0)) == NoTile(TileId(0, 1, 0), "out_of_range")
    assert not server.asked
