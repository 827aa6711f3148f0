"""Tiles that are broken for good: a job comes to an end of them, whatever else is left to do."""

import pytest
from virtual import VirtualTrial

import tilehaul
from doubles.wire import answer
from tilehaul.errors import BrokenError

WORLD = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(6))
# What `--max-wait` allows without one success.
PATIENCE_S = 1800.0


def sick(numbers):
    """Answers 500 for the tiles of the last zoom's first row in these columns, and a tile for all others."""
    addresses = {
        f"/5/{column}/{row}.png" for column in range(32) for row in range(32) if 32 * row + column < numbers
    }

    def step(url, _sent_s):
        ill = any(url.endswith(address) for address in addresses)
        return BrokenError("x", cause="http_500") if ill else answer()

    return step


@pytest.mark.parametrize("count", [9, 36, 45])
async def test_job_with_sick_tiles_ends_and_so_does_the_next(monkeypatch, count):
    """They are dead letters soon after everything else is done; the same again ends as well."""
    trial = VirtualTrial(monkeypatch)
    trial.wire.of_tile = sick(count)
    report = await trial.seed(WORLD)
    assert (report.state, report.dead, report.pending) == ("dead_letters", count, 0)
    assert trial.elapsed_s() < 300.0
    before = len(trial.wire.sent_s)
    again = await trial.seed(WORLD)
    assert (again.state, again.dead, again.pending) == ("dead_letters", count, 0)
    # Six attempts each, and at most five more that were sent to look.
    assert len(trial.wire.sent_s) - before <= 11 * count
    assert trial.elapsed_s() < PATIENCE_S


async def test_nothing_but_sick_tiles_ends_too(monkeypatch):
    """A dozen tiles, and not one good answer: they died of what the origin said, not of our patience."""
    trial = VirtualTrial(monkeypatch)
    trial.wire.of_tile = lambda _url, _sent_s: BrokenError("x", cause="http_500")
    tiles = [tilehaul.TileId(5, column, 0) for column in range(12)]
    report = await trial.seed(tilehaul.Area.from_tiles(tiles))
    assert (report.state, report.dead, report.pending) == ("dead_letters", 12, 0)
    assert trial.elapsed_s() < PATIENCE_S / 3


async def test_quick_absences_do_not_slow_the_tiles_down(monkeypatch):
    """Three quarters of a world that is not there are told at once; what is there comes at full speed."""
    sea = answer(404, b"")

    def step(url, _sent_s):
        _, _, column, _ = url.removesuffix(".png").rsplit("/", 3)
        return sea if int(column) % 4 else answer()

    times = {}
    for name, of_tile in (("land", lambda _url, _sent_s: answer()), ("coast", step)):
        trial = VirtualTrial(monkeypatch, ttfb_s=0.06)
        send = trial.wire.send

        async def quick_if_absent(request, send=send, wire=trial.wire, of_tile=of_tile):
            wire._ttfb_s = 0.002 if of_tile(request.url, 0.0) is sea else 0.06
            return await send(request)

        trial.wire.of_tile = of_tile
        trial.wire.send = quick_if_absent
        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[6])
        report = await trial.seed(area)
        assert report.state == "complete"
        times[name] = trial.elapsed_s()
    assert times["coast"] < times["land"]
