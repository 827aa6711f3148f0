"""A PMTiles file on a server: read by ranges, by every command that reads archives."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tilehaul import blocking
from tilehaul.cli.main import main
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.mock import MockThread
from tilehaul.ports.tile import Tile
from tilehaul.wiring.senders import open_laned


class RangeServer:
    """Serves `content` under every name; `ranges` False: it sends the whole file always."""

    def __init__(self, content: bytes) -> None:
        self.content, self.etag, self.ranges = content, '"one"', True
        self.asked: list[str] = []
        # What the answer with this number (from 1) is instead: short, whole, shifted.
        self.odd: dict[int, str] = {}
        # From this one on, the file is another.
        self.replaced_at = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = self.headers.get("Range", "")
                owner.asked.append(asked)
                body, status = owner.content, 200
                habit = owner.odd.get(len(owner.asked), "")
                if len(owner.asked) == owner.replaced_at:
                    owner.etag = '"two"'
                if asked and owner.ranges and habit != "whole":
                    first, last = map(int, asked.removeprefix("bytes=").split("-"))
                    if habit == "short":
                        last = (first + last) // 2
                    if habit == "shifted":
                        first, last = first + 1, last + 1
                    body, status = owner.content[first : last + 1], 206
                self.send_response(status)
                if status == 206:
                    told = f"bytes {first}-{first + len(body) - 1}/{len(owner.content)}"
                    self.send_header("Content-Range", told)
                self.send_header("ETag", owner.etag)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/maps/world.pmtiles"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """85 tiles, zooms 0 to 3."""
    path = tmp_path / "world.pmtiles"
    with MockThread() as server:
        assert main(["seed", server.template, str(path), "-z", "0-3", "--quiet"]) == 0
    return path


@pytest.fixture
def remote(local: Path) -> Iterator[RangeServer]:
    served = RangeServer(local.read_bytes())
    yield served
    served.close()


def test_copy_verify_diff_and_info_read_it_there(
    remote: RangeServer, local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "copy.mbtiles")
    assert main(["copy", remote.url, store, "--quiet"]) == 0
    # The head twice (who lists the tiles, who reads them), then one range a tile: no leaf directories here.
    assert len(remote.asked) == 2 + 85
    assert main(["diff", str(local), store]) == 0
    assert main(["diff", remote.url, store]) == 0
    assert main(["verify", remote.url]) == 0
    capsys.readouterr()
    assert main(["info", remote.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiles"] == 85


def test_a_tile_is_a_head_and_a_range(remote: RangeServer) -> None:
    with blocking.open(remote.url) as source:
        first = source.get(TileId(3, 4, 2))
        assert isinstance(first, Tile)
        assert len(remote.asked) == 2
        assert getattr(source.get(TileId(9, 4, 2)), "cause", "") == "not_stored"
        assert len(remote.asked) == 2
        assert source.info.zoom_max == 3


def test_seed_of_an_area_from_it(remote: RangeServer, tmp_path: Path) -> None:
    area = Area.from_bbox(-180, -85, 180, 85, zooms=[2])
    report = blocking.seed(remote.url, str(tmp_path / "tiles"), area)
    assert (report.state, report.done) == ("complete", 16)


def test_a_file_that_is_replaced_meanwhile_is_never_mixed(remote: RangeServer) -> None:
    with blocking.open(remote.url) as source:
        source.get(TileId(3, 4, 2))
        remote.etag = '"two"'
        with pytest.raises(Exception, match="was replaced while it was read"):
            source.get(TileId(3, 5, 2))


@pytest.mark.parametrize("habit", ["short", "whole", "shifted"])
def test_one_odd_answer_is_tried_again(remote: RangeServer, tmp_path: Path, habit: str) -> None:
    remote.odd = {20: habit, 50: habit}
    assert (
        main(["copy", remote.url, str(tmp_path / "a.mbtiles"), "--quiet", "--report", str(tmp_path / "r")])
        == 0
    )
    assert len(remote.asked) == 2 + 85 + 2
    report = json.loads((tmp_path / "r").read_text())
    assert (report["done"], report["dead"], report["retried"]) == (85, 0, 2)


def test_a_job_waits_out_an_outage_of_it_and_a_reader_does_not(
    remote: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open breaker is a pause in a job, as with every source; else its tiles would end as `busy`."""
    pauses = []

    def spy(*args: Any, **options: Any) -> Any:
        pauses.append(options["pause"])
        return open_laned(*args, **options)

    monkeypatch.setattr("tilehaul.wiring.remote.open_laned", spy)
    area = Area.from_bbox(-180, -85, 180, 85, zooms=[1])
    assert blocking.seed(remote.url, str(tmp_path / "tiles"), area).done == 4
    with blocking.open(remote.url) as source:
        source.get(TileId(0, 0, 0))
    assert pauses == [True, False]


def test_a_file_replaced_in_mid_run_stops_the_copy(
    remote: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing dead, nothing kept of the new one; and the way to go on is told, once."""
    remote.replaced_at = 40
    store = str(tmp_path / "a.mbtiles")
    report = tmp_path / "r"
    assert main(["copy", remote.url, store, "-c", "4", "--report", str(report)]) == 4
    said = capsys.readouterr().err
    assert said.count("was replaced while it was read") == 1
    assert "--overwrite" in said
    assert "without --overwrite" not in said
    assert "--update" in said
    assert "run the same" not in said
    counts = json.loads(report.read_text())
    assert counts["dead"] == 0
    assert counts["done"] <= 37
    assert counts["pending"] == 85 - counts["done"]
    remote.replaced_at = 0
    assert main(["copy", remote.url, store]) == 2
    said = capsys.readouterr().err
    size = f"{len(remote.content)} bytes"
    assert (
        f'has changed since: then ETag "one", {size}, now ETag "two", {size}: `tilehaul copy --update`'
        in said
    )
    assert "run the same" not in said
    assert main(["copy", remote.url, store, "--update", "--quiet"]) == 0
    assert main(["copy", remote.url, store, "--overwrite", "--quiet"]) == 0


def test_what_cannot_be_is_told_in_one_line(
    remote: RangeServer, local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote.ranges = False
    assert main(["info", remote.url]) == 2
    assert "sends no ranges" in capsys.readouterr().err
    assert main(["copy", str(local), remote.url]) == 2
    said = capsys.readouterr().err
    assert "is a file elsewhere" in said
    assert len(said.splitlines()) == 1


def test_a_secret_in_its_address_is_not_told(
    remote: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["copy", remote.url + "?token=canary-123", str(tmp_path / "a.mbtiles"), "--json"]) == 0
    assert main(["info", str(tmp_path / "a.mbtiles"), "--json"]) == 0
    remote.ranges = False
    assert main(["verify", remote.url + "?token=canary-123"]) == 2
    said = capsys.readouterr()
    assert "canary" not in said.out + said.err
