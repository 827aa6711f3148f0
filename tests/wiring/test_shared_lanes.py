"""Layers of one host share one lane: a map of five of them sends no more than a map of one."""

import asyncio

import pytest

from tilehaul.config.settings import LayerSettings, Settings
from tilehaul.errors import PlanError, TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Faults, RateLimit, RetryAfter
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.policy.limit_rule import lane_most
from tilehaul.wiring.layers import Layers, open_layers
from tilehaul.wiring.shared_lanes import LaneWish, hosts_of, shared_wishes

R2 = {"R2_ACCOUNT_ID": "0" * 32}


async def ask(opened: Layers, number: int, x: int) -> object:
    return await opened.layers[number].source.get(TileId(6, x, 1))


async def test_two_layers_of_a_host_have_one_lane_as_the_more_modest_would_have_it() -> None:
    with MockThread(MockSettings()) as server:
        layers = {
            "greedy": LayerSettings(source=server.template, concurrency=20),
            "modest": LayerSettings(source=server.template + "?style=2", concurrency=3),
        }
        async with open_layers(Settings(layers=layers)) as opened:
            await asyncio.gather(*(ask(opened, n, x) for n in (0, 1) for x in range(10)))
            (one,), (other,) = (layer.lanes() for layer in opened.layers)
            assert one.requests == other.requests == 20 == server.stats().requests
            assert max(one.limit, other.limit) <= 3
            assert [layer.lane_max for layer in opened.layers] == [3, 3]


async def test_push_back_to_one_layer_holds_the_other() -> None:
    faults = Faults(rate_limit=RateLimit(0.001, 1), retry_after=RetryAfter("seconds", 60))
    with MockThread(MockSettings(faults=faults)) as server:
        source = LayerSettings(source=server.template, timeout=5.0)
        async with open_layers(Settings(layers={"one": source, "two": source})) as opened:
            await ask(opened, 0, 0)
            for number in (0, 1, 1):
                with pytest.raises(TilehaulError, match=r"wait|fewer"):
                    await ask(opened, number, 1 + number)
            # The second request was pushed back; nothing was sent after it, by neither layer.
            assert server.stats().requests == 2


async def test_other_hosts_keep_lanes_of_their_own() -> None:
    with MockThread(MockSettings()) as here, MockThread(MockSettings()) as there:
        layers = {
            "here": LayerSettings(source=here.template, concurrency=2),
            "there": LayerSettings(source=there.template),
        }
        async with open_layers(Settings(layers=layers)) as opened:
            await ask(opened, 0, 0)
            await ask(opened, 1, 0)
            assert [layer.lanes()[0].requests for layer in opened.layers] == [1, 1]
            assert [layer.lane_max for layer in opened.layers] == [2, lane_most("tile")]


def test_wishes_are_the_least_of_each_kind() -> None:
    layers = {
        "a": LayerSettings(source=["https://{s}.h/{z}/{x}/{y}.png", "a.mbtiles"], rate_limit=5.0),
        "b": LayerSettings(source="https://b.h/{z}/{x}/{y}.png", concurrency=40, timeout=7.0),
    }
    wishes = shared_wishes(layers, {})
    assert wishes["b.h:443"] == LaneWish(32, 5.0, 7.0)
    assert wishes["a.h:443"] == wishes["c.h:443"] == LaneWish(32, 5.0, 30.0)
    assert len(wishes) == 3


def test_two_prefixes_of_a_bucket_are_one_host() -> None:
    assert hosts_of("r2://photos/a", R2) == hosts_of("r2://photos/b", R2)
    assert hosts_of("tiles/", R2) == ()


def test_a_location_that_is_none_is_told_with_its_layer() -> None:
    with pytest.raises(PlanError, match=r"layers\.odd: .*unknown scheme"):
        shared_wishes({"odd": LayerSettings(source="gopher://x")}, {})
