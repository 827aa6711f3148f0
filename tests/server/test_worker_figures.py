"""The figures of several processes as those of one service, and the parent that passes them on."""

import asyncio

import msgspec

from tilehaul.jobs.tile_stats import TileStats
from tilehaul.policy.lane_stats import LaneFigures, Percentiles
from tilehaul.ports.lane import LaneSnapshot, ProcessFigures
from tilehaul.ports.store import CacheStats
from tilehaul.server.switchboard import Switchboard
from tilehaul.server.worker_figures import (
    LayerFigures,
    WorkerFigures,
    joined_figures,
    summed_lane,
    summed_lanes,
)
from tilehaul.server.worker_link import Answered, Ask, Asked, Reply, Told


def lane(name="a (tile)", **more):
    return LaneSnapshot(name, "tile", **{"limit": 4, **more})


def test_lanes_to_one_upstream_count_together_and_show_the_worst():
    recent = LaneFigures(answered=8, failed=2, causes={"server": 2}, total=Percentiles(1.0, 2.0, 3.0))
    calm = lane(requests=5, in_flight=1, causes={"server": 1}, rate_per_s=2.0, budget_left=10.0)
    held = lane(
        requests=7,
        gate="held",
        gate_wait_s=3.0,
        gate_reason="asked",
        breaker="half_open",
        causes={"server": 2, "rate_limit": 1},
        rate_per_s=2.0,
        recent=recent,
        queue_depth=2,
    )
    gone = WorkerFigures({"far": LayerFigures(in_flight=3, lanes=(lane(requests=100),))}).ended()
    whole = summed_lane([calm, held, *gone.layers["far"].lanes])
    assert (whole.limit, whole.in_flight, whole.queue_depth, whole.requests) == (8, 1, 2, 112)
    assert (whole.gate, whole.gate_wait_s, whole.gate_reason, whole.breaker) == (
        "held",
        3.0,
        "asked",
        "half_open",
    )
    assert whole.causes == {"server": 3, "rate_limit": 1}
    assert (whole.rate_per_s, whole.pace_per_s, whole.budget_left) == (4.0, None, 110.0)
    assert (whole.recent.answered, whole.recent.failed, whole.recent.failure_share) == (8, 2, 0.2)
    assert whole.recent.total == Percentiles(1.0, 2.0, 3.0)
    assert gone.layers["far"].in_flight == 0


def test_lanes_keep_their_order_whoever_tells():
    one, two = LayerFigures(lanes=(lane("b"), lane("a"))), LayerFigures(lanes=(lane("a"), lane("c")))
    assert [told.name for told in summed_lanes([one, two], ("a", "b"))] == ["a", "b", "c"]
    assert [told.name for told in summed_lanes([two, one], ("a", "b"))] == ["a", "b", "c"]


def test_what_ended_keeps_its_counts_and_is_one_however_many_ended():
    cache = CacheStats(tiles=3, bytes=30, bytes_max=100, hits=1, misses=2, evictions=4)
    figures = WorkerFigures(
        {"far": LayerFigures(hits=2, misses=3, fetch_ms=(1.0,) * 1000, errors={"busy": 1}, cache_tiles=3)},
        cache,
        ProcessFigures(3, 4),
    )
    ended = WorkerFigures()
    for _ in range(3):
        ended = joined_figures([ended, figures.ended()])
    far = ended.layers["far"]
    assert (far.hits, far.misses, far.errors, far.cache_tiles, len(far.fetch_ms)) == (
        6,
        9,
        {"busy": 3},
        0,
        1024,
    )
    assert ended.cache == CacheStats(tiles=0, bytes=0, bytes_max=0, hits=3, misses=6, evictions=12)
    assert ended.process is None
    decode = msgspec.msgpack.Decoder(WorkerFigures).decode
    assert decode(msgspec.msgpack.encode(ended)) == ended


async def test_only_layers_that_counted_are_news(service):
    service.layer("a").put("1/0/0")
    service.layer("b").put("1/0/0")
    app = service.build()
    assert set(app.figures.news().layers) == {"a", "b"}
    assert app.figures.news() is None
    assert (await service.ask("/api/tiles/b/1/0/0.png")).status == 200
    news = app.figures.news()
    assert (set(news.layers), news.layers["b"].misses) == ({"b"}, 1)
    assert isinstance(service.layers["b"].stats, TileStats)


class Ear:
    """A link that remembers what was sent."""

    def __init__(self):
        self.heard = asyncio.Queue()

    def send(self, message):
        self.heard.put_nowait(message)
        return True


def figures_with(hits):
    return WorkerFigures({"far": LayerFigures(hits=hits)})


async def test_who_does_not_answer_is_told_as_it_was_last():
    """The asker waits for nobody; the number of those who answered says so."""
    board, asker, good, deaf = Switchboard(figures_s_max=0.01), Ear(), Ear(), Ear()
    for index, ear in enumerate((asker, good, deaf)):
        board.joined(index, ear)
    board.on(2, Told(figures_with(5)))
    board.on(0, Ask(11, figures=figures_with(1)))
    asked = await good.heard.get()
    assert isinstance(asked, Asked)
    board.on(1, Reply(asked.number, figures_with(3)))
    answer = await asker.heard.get()
    assert (answer.number, answer.figures.workers, answer.figures.answered) == (11, 3, 2)
    assert sorted(one.layers["far"].hits for one in answer.figures.others) == [3, 5]

    board.left(2)
    board.left(2)
    board.on(0, Ask(12, figures=figures_with(1)))
    asked = await good.heard.get()
    board.left(1)
    answer = await asker.heard.get()
    assert (answer.figures.workers, answer.figures.answered, answer.figures.others) == (1, 1, ())
    assert answer.figures.ended.layers["far"].hits == 8


async def test_forgetting_is_asked_of_all_others():
    board, asker, other = Switchboard(), Ear(), Ear()
    board.joined(0, asker)
    board.joined(1, other)
    board.on(0, Ask(1, layer="far", bbox="0,0,1,1", zooms="3"))
    asked = await other.heard.get()
    assert (asked.layer, asked.bbox, asked.zooms) == ("far", "0,0,1,1", "3")
    board.on(1, Reply(asked.number, forgotten=4))
    assert await asker.heard.get() == Answered(1, forgotten=4)
