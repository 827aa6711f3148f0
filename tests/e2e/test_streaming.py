"""`tilehaul.stream` over a real wire."""

import asyncio
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

import tilehaul
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.lab.mock_settings import MockSettings

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))


async def test_every_tile_comes_and_failures_are_values() -> None:
    """A tenth of the answers are permanent refusals: the stream goes on, and each is asked for once."""
    faults = Faults(errors={418: 0.1})
    async with MockServer(MockSettings(seed=5, faults=faults)) as server:
        answers = [answer async for answer in tilehaul.stream(server.template, AREA)]
        stats = server.stats()
        bodies = {tile_id: server.body_of(tile_id) for tile_id in AREA}
    kinds = Counter(type(answer) for answer in answers)
    assert kinds == {tilehaul.FailedTile: stats.by_status[418], tilehaul.Tile: 85 - stats.by_status[418]}
    assert Counter(answer.tile_id for answer in answers) == Counter(AREA)
    assert stats.requests == 85
    for answer in answers:
        if isinstance(answer, tilehaul.Tile):
            assert answer.body == bodies[answer.tile_id]
        if isinstance(answer, tilehaul.FailedTile):
            assert isinstance(answer.error, tilehaul.RefusedError)
            assert answer.attempts == 1


async def test_break_ends_the_requests_and_leaves_no_task() -> None:
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=5)))) as server:
        async with aclosing(tilehaul.stream(server.template, AREA)) as answers:
            async for _ in answers:
                break
        assert asyncio.all_tasks() == {asyncio.current_task()}
        asked = server.stats().requests
        await asyncio.sleep(0.02)
        assert server.stats().requests == asked < 85


async def test_archive_and_open_source_stream_alike(tmp_path: Path) -> None:
    path = str(tmp_path / "a.mbtiles")
    async with MockServer() as server:
        await tilehaul.seed(server.template, path, AREA)
    wanted = [*AREA, tilehaul.TileId(9, 0, 0)]
    from_path = [answer async for answer in tilehaul.stream(path, wanted)]
    async with tilehaul.open(path) as source:
        from_source = [answer async for answer in tilehaul.stream(source, wanted)]
    assert Counter(from_path) == Counter(from_source)
    assert Counter(type(answer) for answer in from_path) == {tilehaul.Tile: 85, tilehaul.NoTile: 1}


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://tile.openstreetmap.org/{z}/{x}/{y}.png", "prohibits bulk download"),
        ("http://93.184.216.34/{z}/{x}/{y}.png", "--contact"),
        ("nowhere.mbtiles", "no such"),
    ],
)
async def test_stream_is_bulk_and_is_refused_where_a_seed_is(location: str, words: str) -> None:
    with pytest.raises(tilehaul.PlanError, match=words):
        await anext(tilehaul.stream(location, AREA))
