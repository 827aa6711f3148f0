"""A PMTiles file over HTTP ranges: what is asked for, and servers that answer something else."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from doubles.clock import VirtualClock
from tilehaul.errors import DataError, PlanError, RefusedError
from tilehaul.grid.tile_id import TileId
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.freshness import ABSENT_FRESH_S
from tilehaul.policy.tally import Tally
from tilehaul.ports.origin import Validators
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request, Response
from tilehaul.stores import pmtiles_layout
from tilehaul.stores.http_ranges import HttpRangeReader
from tilehaul.stores.pmtiles import PmtilesStore
from tilehaul.stores.pmtiles_remote import RemotePmtiles

IDS = [TileId(8, x, y) for x in range(60) for y in range(60)]


def body(tile_id: TileId) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + str(tile_id).encode()


class Host:
    """Sends one file as a server of ranges does; `habit` is what it does instead."""

    def __init__(self, content: bytes, habit: str = "") -> None:
        self.content, self.habit, self.etag = content, habit, '"1"'
        self.asked: list[str] = []

    async def send(self, request: Request) -> Response:
        asked = dict(request.headers)["Range"]
        self.asked.append(asked)
        await asyncio.sleep(0)
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        if self.habit == "404":
            return Response(request.url, 404, {}, b"")
        if self.habit == "ignores":
            if len(self.content) > request.body_bytes_max:
                raise RefusedError("too large", cause="too_large")
            return Response(request.url, 200, {}, self.content)
        part = self.content[first : last + 1]
        if self.habit == "short":
            part = part[: len(part) // 2]
        shift = 1 if self.habit == "shifts" else 0
        size = "9" * 5000 if self.habit == "vast" else len(self.content)
        told = f"bytes {first + shift}-{first + shift + len(part) - 1}/{size}"
        return Response(request.url, 206, {"content-range": told, "etag": self.etag}, part)


@pytest.fixture
async def content(tmp_path: Path, monkeypatch: Any) -> bytes:
    monkeypatch.setattr(pmtiles_layout, "LEAF_ENTRIES_MIN", 500)
    monkeypatch.setattr(pmtiles_layout, "ROOT_BYTES_MAX", 400)
    store = PmtilesStore(tmp_path / "a.pmtiles", durability="fast")
    await store.begin(JobKey("s", "S", "a", len(IDS), metadata=(("name", "Alps"),)))
    await store.commit([Tile(i, body(i), "image/png") for i in IDS])
    await store.finish(complete=True)
    await store.close()
    return (tmp_path / "a.pmtiles").read_bytes()


def remote(host: Host, clock: VirtualClock | None = None) -> RemotePmtiles:
    clock = clock or VirtualClock()
    sender = VerifiedSender(host, clock, Tally())
    return RemotePmtiles(
        HttpRangeReader("http://h/a.pmtiles", sender, shown="http://h/a.pmtiles", clock=clock)
    )


async def test_tiles_cost_one_request_each_and_one_a_leaf(content: Any) -> None:
    """The head once for all who ask at once; a missing tile none of its own."""
    host = Host(content)
    archive = remote(host)
    near = [TileId(8, 0, y) for y in range(4)]
    answers = await asyncio.gather(*map(archive.get, near))
    assert answers == [Tile(i, body(i), "image/png", "store") for i in near]
    assert len(host.asked) == 1 + 1 + 4
    assert host.asked[0] == "bytes=0-16383"
    assert await archive.get(TileId(8, 200, 200)) == NoTile(TileId(8, 200, 200), "not_stored", "store")
    assert {i async for i in archive.tile_ids()} == set(IDS)
    info = await archive.describe()
    assert (info.tiles, info.state, info.bytes) == (len(IDS), "complete", len(content))
    assert (await archive.source_info()).name == "Alps"
    assert await archive.states([IDS[0], TileId(9, 0, 0)]) == ["done", None]
    await archive.close()


@pytest.mark.parametrize("habit", ["ignores", "shifts", "vast"])
async def test_server_without_ranges_is_told_of(content: Any, habit: Any) -> None:
    with pytest.raises(PlanError, match="sends no ranges"):
        await remote(Host(content, habit)).get(IDS[0])


async def test_small_file_from_a_server_without_ranges_is_refused_the_same(content: Any) -> None:
    with pytest.raises(PlanError, match="sends no ranges"):
        await remote(Host(content[:900], "ignores")).get(IDS[0])


async def test_file_that_is_not_there_is_a_plan_error(content: Any) -> None:
    with pytest.raises(PlanError, match="no such file"):
        await remote(Host(content, "404")).get(IDS[0])


async def test_file_replaced_under_us_is_no_tile_of_either(content: Any) -> None:
    host = Host(content)
    archive = remote(host)
    await archive.get(IDS[0])
    host.etag = '"2"'
    with pytest.raises(DataError, match="replaced") as caught:
        await archive.get(IDS[-1])
    assert caught.value.cause == "replaced"


async def test_who_asks_for_tiles_of_now_gets_those_of_the_new_file(content: Any) -> None:
    """It is opened once for all who ask at once; whoever reads one file to its end still hears of it."""
    host = Host(content)
    archive = remote(host)
    near = [TileId(8, 0, y) for y in range(4)]
    await asyncio.gather(*map(archive.ask, near))
    host.etag = '"2"'
    before = len(host.asked)
    heard = await asyncio.gather(*map(archive.ask, near))
    assert [each.answer for each in heard] == [Tile(i, body(i), "image/png", "store") for i in near]
    assert {each.headers["etag"] for each in heard} == {'"2"'}
    # Four that hear of it, the head and the leaf of the new file, four tiles.
    assert len(host.asked) - before == 4 + 1 + 1 + 4
    with pytest.raises(DataError, match="replaced"):
        await archive.get(near[0])
    # What the old file was called is no name of the new one.
    assert isinstance((await archive.ask(near[0], Validators('"1"'))).answer, Tile)
    await archive.close()


async def test_that_there_is_no_such_tile_is_believed_for_a_while(content: Any) -> None:
    host, clock = Host(content), VirtualClock()
    archive = remote(host, clock)
    nowhere = TileId(2, 0, 0)
    for _ in range(3):
        assert isinstance((await archive.ask(nowhere)).answer, NoTile)
    before = len(host.asked)
    clock.advance(ABSENT_FRESH_S + 1.0)
    for _ in range(3):
        assert isinstance((await archive.ask(nowhere)).answer, NoTile)
    assert host.asked[before:] == ["bytes=0-0"]


@pytest.mark.parametrize(
    ("habit", "cause"), [("ignores", "no_range"), ("shifts", "no_range"), ("short", "truncated")]
)
async def test_one_odd_answer_later_is_a_failed_attempt(content: Any, habit: Any, cause: Any) -> None:
    host = Host(content)
    archive = remote(host)
    await archive.get(IDS[0])
    host.habit = habit
    with pytest.raises(DataError) as caught:
        await archive.get(IDS[-1])
    assert caught.value.cause == cause
    host.habit = ""
    assert isinstance(await archive.get(IDS[-1]), Tile)


async def test_cut_file_is_a_data_error(content: Any) -> None:
    with pytest.raises(DataError):
        await remote(Host(content[:-9])).get(max(IDS, key=lambda i: i.pmtiles_id))
