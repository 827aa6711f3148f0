"""What the user says of a lane reaches the wire, from the command line and from the settings."""

import asyncio
import io
import time
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.cli.watching import Watcher
from tilehaul.config.settings import LayerSettings, Settings
from tilehaul.errors import BrokenError, BusyError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.events import LaneHeld
from tilehaul.wiring.layers import open_layers


def layer(source: str, **more: object) -> Settings:
    return Settings(layers={"osm": LayerSettings(source=source, **more)})  # type: ignore[arg-type]


def test_seed_keeps_to_its_rate_limit(tmp_path: Path) -> None:
    """21 tiles at 50 a second are 20 steps of 20 ms."""
    with MockThread() as server:
        begun_s = time.monotonic()
        code = main(
            [
                "seed",
                server.template,
                str(tmp_path / "a.mbtiles"),
                "-z",
                "0-2",
                "--rate-limit",
                "50",
                "--quiet",
            ]
        )
        assert code == 0
        assert time.monotonic() - begun_s >= 0.4
        assert server.stats().requests == 21


@pytest.mark.parametrize("words", [["--rate-limit", "0"], ["--rate-limit", "-1"], ["--rate-limit", "nan"]])
def test_rate_that_is_none_is_refused(capsys, tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["seed", "http://127.0.0.1:9/{z}/{x}/{y}.png", str(tmp_path / "a.mbtiles"), *words])
    assert ended.value.code == 2
    assert "--rate-limit" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "peak"), [([], 4), (["--fixed"], 12)])
def test_lane_starts_low_unless_it_is_fixed(tmp_path: Path, words: list[str], peak: int) -> None:
    """21 answers of 25 ms are over long before the first window closes."""
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=25)))) as server:
        command = ["seed", server.template, str(tmp_path / "a.mbtiles"), "-z", "0-2", "-c", "12", "--quiet"]
        assert main([*command, *words]) == 0
        assert server.stats().peak_in_flight == peak


async def test_layer_keeps_to_its_rate_limit() -> None:
    async with MockServer() as server, open_layers(layer(server.template, rate_limit=50.0)) as opened:
        begun_s = time.monotonic()
        await asyncio.gather(*(opened.layers[0].source.get(TileId(4, x, 0)) for x in range(11)))
        assert time.monotonic() - begun_s >= 0.2


async def test_service_leaves_an_origin_alone_that_fails() -> None:
    """Ten failures, then no request more: BusyError, which is 503 with Retry-After at the door."""
    async with (
        MockServer(MockSettings(faults=Faults(errors={500: 1.0}))) as server,
        open_layers(layer(server.template, retries=0)) as opened,
    ):
        source = opened.layers[0].source
        for x in range(10):
            with pytest.raises(BrokenError):
                await source.get(TileId(5, x, 0))
        refused = 0
        for x in range(10, 30):
            try:
                await source.get(TileId(5, x, 0))
            except BusyError as error:
                refused += 0.0 < error.retry_after_s <= 30.0
            except BrokenError:
                pass  # a probe: luck may have made the pause very short
        assert refused > 10
        assert server.stats().requests == 30 - refused


def test_reason_of_a_hold_is_told_however_short_it_is() -> None:
    stream = io.StringIO()
    watcher = Watcher(quiet=False, as_json=False, stream=stream)
    watcher(LaneHeld("a.test (tile)", 2.0))
    assert stream.getvalue() == ""
    watcher(LaneHeld("a.test (tile)", 2.0, "fails"))
    assert stream.getvalue() == "a.test (tile) fails; next try in 2 s, nothing is lost\n"


@pytest.mark.parametrize("reason", ["", "asked to wait 365 days: parked"])
def test_hold_that_is_longer_than_the_job_waits_promises_no_next_try(reason: str) -> None:
    stream = io.StringIO()
    watcher = Watcher(quiet=False, as_json=False, stream=stream, max_wait_s=1800.0)
    watcher(LaneHeld("a.test (tile)", 31_536_001.0, reason))
    said = reason or "asks us to wait 365 days"
    assert stream.getvalue() == f"a.test (tile) {said}; this job waits no longer than 30 min (--max-wait)\n"
    watcher(LaneHeld("a.test (tile)", 600.0))
    assert stream.getvalue().endswith("a.test (tile) asks us to wait 10 min; waiting, nothing is lost\n")
