"""What a lane's maximum is on its way from `Sending`: the class's own, unless the user says another."""

import pytest

import tilehaul
from tilehaul.config.locations import parse_location
from tilehaul.config.settings import LayerSettings, Settings
from tilehaul.policy.tally import Tally
from tilehaul.ports.wire import Request
from tilehaul.wiring.layers import open_layers
from tilehaul.wiring.places import lane_class_of, workers_for
from tilehaul.wiring.senders import open_laned


async def highest(sending: tilehaul.Sending, lane_class: str) -> int:
    """The limit of a lane whose upstream answers ever so many, after a minute."""
    async with open_laned(sending, set(), tally=Tally()) as laned:
        limit = laned._lane_of(Request("http://127.0.0.1:1/x", lane_class=lane_class)).limit
        for tenth in range(600):
            for _ in range(limit.limit):
                limit.on_success(tenth / 10, 0.1, limit.limit, 0.5)
        return limit.limit


@pytest.mark.parametrize(
    ("lane_class", "most"), [("wms", 8), ("tile", 32), ("cdn", 128), ("s3-read", 128), ("s3-write", 64)]
)
async def test_without_a_cap_each_class_has_its_own_maximum(lane_class: str, most: int) -> None:
    assert await highest(tilehaul.Sending(), lane_class) == most


@pytest.mark.parametrize("cap", [5, 40])
async def test_cap_of_the_user_wins_in_both_directions(cap: int) -> None:
    sending = tilehaul.Sending(concurrency=cap)
    assert {await highest(sending, name) for name in ("wms", "tile", "s3-read")} == {cap}


async def test_fixed_limit_is_the_cap_or_32() -> None:
    fixed = tilehaul.Sending(adaptive=False)
    assert {await highest(fixed, name) for name in ("wms", "tile", "s3-read")} == {32}
    assert await highest(tilehaul.Sending(adaptive=False, concurrency=3), "wms") == 3


def test_a_bucket_is_read_through_another_class_of_lane() -> None:
    where = ("http://h/{z}/{x}/{y}.png", "a.mbtiles", "s3://bucket/prefix")
    assert [lane_class_of(parse_location(text)) for text in where] == ["tile", "tile", "s3-read"]


@pytest.mark.parametrize(("said", "most"), [({}, 32), ({"concurrency": 7}, 7)])
async def test_layer_tells_its_maximum(said: dict[str, int], most: int) -> None:
    layer = LayerSettings(source="http://127.0.0.1:1/{z}/{x}/{y}.png", **said)
    async with open_layers(Settings(layers={"one": layer})) as opened:
        assert opened.layers[0].lane_max == most


@pytest.mark.parametrize(
    ("location", "cap", "workers"),
    [
        ("https://h/{z}/{x}/{y}.png", None, 36),
        ("wmts+https://h/c.xml?layer=a", None, 36),
        # Sixteen tiles share a request: eight requests and four to spare.
        ("wms+https://h/wms?layers=a", None, 12 * 16),
        ("wms+https://h/wms?layers=a&tilehaul.meta=1", 2, 6),
        ("wms+https://h/wms?layers=a&tilehaul.meta=16", 100, 4096),
    ],
)
def test_a_job_asks_for_enough_tiles_to_fill_the_lane(location: str, cap: int | None, workers: int) -> None:
    assert workers_for(parse_location(location), tilehaul.Sending(concurrency=cap)) == workers
