"""Many tiles in a plain `for` loop."""

import threading
from collections.abc import Iterator

import pytest

import tilehaul
from tilehaul import blocking
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(6))
ONCE = tilehaul.Sending(retries=0)


def of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tilehaul")]


def test_every_tile_is_answered_once_and_failures_are_values() -> None:
    settings = MockSettings(seed=3, faults=Faults(errors={500: 0.1}), absence=Absence(share=0.2))
    with MockThread(settings) as server:
        answers = list(blocking.stream(server.template, AREA, sending=ONCE))
        by_kind = dict.fromkeys((tilehaul.Tile, tilehaul.NoTile, tilehaul.FailedTile), 0)
        for answer in answers:
            by_kind[type(answer)] += 1
            if isinstance(answer, tilehaul.Tile):
                assert answer.body == server.body_of(answer.tile_id)
        assert sorted(answer.tile_id for answer in answers) == sorted(AREA)
        assert all(by_kind.values()), by_kind
        assert server.stats().requests == AREA.count()
    assert of_ours() == []


def test_leaving_the_loop_ends_every_request() -> None:
    """Of a world of tiles few are asked for; no thread is left, also when the body raises."""
    world = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(20))
    with MockThread() as server:
        for _answer in blocking.stream(server.template, world):
            break
        assert of_ours() == []
        asked = server.stats().requests
        # What lies ready here, in the stream, and what is under way.
        assert asked < 2000

        def fail() -> None:
            for _answer in blocking.stream(server.template, world):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
    assert of_ours() == []


def test_slow_reader_slows_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded by count here and by bytes: 3 MB of 100 kB tiles are 30 tiles, not 256."""
    monkeypatch.setattr(blocking, "PAGE_BYTES_MAX", 3_000_000)
    world = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(20))
    pages = blocking._Pages(_without_end(world))

    async def fill() -> int:
        import asyncio  # noqa: PLC0415

        filling = asyncio.create_task(pages.fill())
        await asyncio.sleep(0)
        count = len(await pages.take())
        filling.cancel()
        return count

    with blocking.LoopThread() as thread:
        assert thread.run(fill()) == 30


async def _without_end(area: tilehaul.Area):
    for tile_id in area:
        yield tilehaul.Tile(tile_id, bytes(100_000), "image/png")


def test_work_that_raises_in_the_middle_comes_after_what_was_begun() -> None:
    def work() -> Iterator[tilehaul.TileId]:
        yield from list(AREA)[:10]
        raise ZeroDivisionError("the list broke")

    seen: list[object] = []
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=5)))) as server:
        with pytest.raises(ZeroDivisionError, match="the list broke"):
            seen.extend(blocking.stream(server.template, work()))
        assert len(seen) == server.stats().requests == 10
    assert of_ours() == []


def test_what_is_no_tile_is_refused() -> None:
    with MockThread() as server, pytest.raises(tilehaul.PlanError, match="TileId"):
        list(blocking.stream(server.template, ["3/4/2"]))  # type: ignore[list-item]
    with pytest.raises(tilehaul.PlanError, match="prohibits"):
        list(blocking.stream("https://tile.openstreetmap.org/{z}/{x}/{y}.png", AREA))


def test_stream_that_is_never_begun_begins_nothing() -> None:
    blocking.stream("http://127.0.0.1:9/{z}/{x}/{y}.png", AREA)
    assert of_ours() == []
