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
from tilehaul.policy.tally import Tally
from tilehaul.wiring import places, senders

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


async def test_failed_attempts_are_tried_again_and_nobody_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the answers are cut short: every tile comes, for one request more each."""
    rule = senders.RetryRule
    monkeypatch.setattr(senders, "RetryRule", lambda **given: rule(**given, delay_s_first=0.001))
    faults = Faults(shares={"short_length": 0.25})
    async with MockServer(MockSettings(seed=5, faults=faults)) as server:
        sending = tilehaul.Sending(retries=12)
        answers = [answer async for answer in tilehaul.stream(server.template, AREA, sending=sending)]
        stats = server.stats()
    assert Counter(type(answer) for answer in answers) == {tilehaul.Tile: 85}
    assert stats.requests == 85 + stats.by_fault["short_length"] > 95


async def test_retries_of_a_job_are_paid_by_the_lane_and_those_of_an_archive_are_none(tmp_path: Path) -> None:
    """One budget a host, the same for every tile of it."""
    tally, sending = Tally(), tilehaul.Sending(retries=7)
    here, there = tilehaul.TileId(3, 4, 2), tilehaul.TileId(3, 5, 2)
    async with places.open_origin(
        "http://127.0.0.1:9/{z}/{x}/{y}.png", sending=sending, tally=tally
    ) as origin:
        assert origin.retrying is not None
        assert origin.retrying.budget_of(here) is origin.retrying.budget_of(there)
        assert origin.retrying.rule.attempts_max == 8
    both = "http://{s}.tiles.test/{z}/{x}/{y}.png"
    async with places.open_origin(both, sending=sending, tally=tally) as origin:
        assert origin.retrying is not None
        budgets = {id(origin.retrying.budget_of(tilehaul.TileId(9, x, 0))) for x in range(9)}
        assert 1 < len(budgets) <= 3
    (tmp_path / "tiles").mkdir()
    async with places.open_origin(str(tmp_path / "tiles"), sending=sending, tally=tally) as origin:
        assert origin.retrying is None


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
