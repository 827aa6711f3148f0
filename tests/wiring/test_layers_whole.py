"""Layers as a configuration opens them: what their parts do together."""

# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import threading

import pytest

from doubles.loopback import Loopback, answer
from doubles.wire import PNG
from tilehaul.config.settings import LayerSettings, ServerSettings, Settings
from tilehaul.errors import ConfigError, DataError, TimedOutError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources import fallback
from tilehaul.wiring.layers import open_layers

T = TileId(3, 4, 2)


class Origin(Loopback):
    """A server that keeps the headers it was sent; `hangs` until `go` is set, `status` otherwise."""

    def __init__(self, *, hangs=False, status=200):
        super().__init__()
        self.headers, self.go = [], threading.Event()
        self.hangs, self.status = hangs, status
        self.template = f"{self.url}/{{z}}/{{x}}/{{y}}.png"

    def answered(self, path, headers):
        self.headers.append({name.lower(): value for name, value in headers.items()})
        if self.hangs:
            self.go.wait(10)
        return answer(self.status, "image/png", PNG)

    def __exit__(self, *told):
        self.go.set()
        super().__exit__(*told)


async def test_headers_go_to_the_host_they_were_written_for():
    """They may hold a key; a fallback on another host is none of its business."""
    with Origin(status=404) as first, Origin() as second:
        layer = LayerSettings(source=[first.template, second.template], headers={"X-Key": "secret"})
        async with open_layers(Settings(layers={"a": layer})) as opened:
            answer = await opened.layers[0].source.get(T)
    assert answer.place == "fallback"
    assert [sent.get("x-key") for sent in first.headers] == ["secret"]
    assert [sent.get("x-key") for sent in second.headers] == [None]


async def test_headers_pass_by_what_is_on_this_machine(tmp_path):
    """The first host that is named, not the first source."""
    (tmp_path / "0" / "0").mkdir(parents=True)
    (tmp_path / "0" / "0" / "0.png").write_bytes(PNG)
    with Origin() as origin:
        layer = LayerSettings(source=[str(tmp_path), origin.template], headers={"X-Key": "secret"})
        async with open_layers(Settings(layers={"a": layer})) as opened:
            assert isinstance(await opened.layers[0].source.get(T), Tile)
    assert [sent.get("x-key") for sent in origin.headers] == ["secret"]


async def test_a_host_that_hangs_is_left_for_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setattr(fallback, "PATIENCE_S", 0.05)
    (tmp_path / "3" / "4").mkdir(parents=True)
    (tmp_path / "3" / "4" / "2.png").write_bytes(PNG)
    with Origin(hangs=True) as origin:
        layer = LayerSettings(source=[origin.template, str(tmp_path)])
        async with open_layers(Settings(layers={"a": layer})) as opened:
            source = opened.layers[0].source
            answer = await asyncio.wait_for(source.get(T), 5.0)
            assert (answer.body, answer.place) == (PNG, "fallback")
            # What only the host could say is waited for.
            asking = asyncio.create_task(source.get(TileId(3, 4, 3)))
            await asyncio.sleep(0.2)
            assert not asking.done()
            origin.go.set()
            assert (await asking).place == "origin"


async def test_an_attempt_ends_before_nobody_waits_any_more():
    """Else the lane to a host that hangs would never learn of it: who is cut off says nothing of the host."""
    with Origin(hangs=True) as origin:
        layer = LayerSettings(source=origin.template, retries=0)
        server = ServerSettings(deadline_s=0.5)
        async with open_layers(Settings(layers={"a": layer}, server=server)) as opened:
            with pytest.raises(TimedOutError):
                await asyncio.wait_for(opened.layers[0].source.get(T), 5.0)
            (lane,) = opened.layers[0].lanes()
            assert lane.recent.failed == 1


async def test_only_formats_that_are_allowed_come_from_a_source(tmp_path):
    """What is refused is not kept, and the next source is asked."""
    (tmp_path / "3" / "4").mkdir(parents=True)
    (tmp_path / "3" / "4" / "2.webp").write_bytes(
        b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00/" + bytes(12)
    )
    with Origin() as origin:
        layers = {
            "strict": LayerSettings(source=origin.template, formats=("webp",)),
            "png": LayerSettings(source=origin.template, formats=("png", "jpeg")),
        }
        async with open_layers(Settings(layers=layers)) as opened:
            strict, png = (layer.source for layer in opened.layers)
            for _ in range(2):
                with pytest.raises(DataError, match="image/png, which the layer does not allow"):
                    await strict.get(T)
            assert (await png.get(T)).media_type == "image/png"
            assert opened.layers[1].formats == {"image/png", "image/jpeg"}
    assert len(origin.headers) == 3


async def test_a_format_that_is_none_is_refused_by_name():
    layers = {"a": LayerSettings(source="http://127.0.0.1:1/{z}/{x}/{y}.png", formats=("exe",))}
    with pytest.raises(ConfigError, match=r"layers\.a\.formats: 'exe' is no format of tiles: avif, gif"):
        async with open_layers(Settings(layers=layers)):
            pass


async def test_a_layer_has_room_of_its_own_to_renew_in():
    """Stale tiles of a host that hangs do not keep those of another from being renewed."""
    with Origin() as here, Origin() as there:
        layers = {"a": LayerSettings(source=here.template), "b": LayerSettings(source=there.template)}
        async with open_layers(Settings(layers=layers)) as opened:
            for layer in opened.layers:
                assert not isinstance(await layer.source.get(T), NoTile)
            first, second = (layer.source._background for layer in opened.layers)
            assert first is not second
