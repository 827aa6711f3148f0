"""SIGHUP: `tilehaul serve` reads its configuration anew, and no request notices."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import pytest

from cli.serving_process import ServingProcess, config_of
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")


def tile(x: int, layer: str = "far") -> str:
    return f"/api/tiles/{layer}/6/{x}/1.png"


def with_layer(config: dict[str, Any], name: str, source: str, **more: Any) -> dict[str, Any]:
    return {**config, "layers": {**config["layers"], name: {"source": source, **more}}}


class Asking(threading.Thread):
    """Asks without a pause until told to end: on one connection, and on ever new ones."""

    def __init__(self, it: ServingProcess) -> None:
        super().__init__()
        self.it = it
        self.statuses: list[int] = []
        self.error: BaseException | None = None
        self.enough = threading.Event()
        self.begun = threading.Event()

    def run(self) -> None:
        try:
            line = self.it.connect()
            while not self.enough.is_set():
                for x in range(4):
                    self.statuses.append(self.it.ask(tile(x), line=line).status)
                    self.statuses.append(self.it.ask(tile(x)).status)
                self.begun.set()
        except BaseException as error:
            self.error = error
            self.begun.set()

    def __enter__(self) -> Self:
        self.start()
        assert self.begun.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.enough.set()
        self.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_notices_that_the_configuration_is_read_anew(tmp_path: Path, workers: int) -> None:
    """Good files and wrong ones while a client asks; what is in memory stays there, counts go on."""
    with MockThread() as origin:
        base = config_of(origin, server={"workers": workers})
        other = with_layer(base, "other", origin.template + "?other", title="Other")
        with ServingProcess(tmp_path, base) as it:
            with Asking(it) as asking:
                assert it.renew(other) == {"event": "serve.renewed", "layers": ["far", "other"]}
                assert it.ask(tile(1, "other")).status == 200
                for wrong, message in (
                    ({**other, "layres": {}}, 'unknown key "layres"'),
                    (with_layer(other, "gone", str(tmp_path / "gone.mbtiles")), "there is no such file"),
                    ({**other, "server": {"workers": workers + 1}}, "server.workers has changed"),
                    ({**other, "layers": {}}, "nothing to serve"),
                ):
                    told = it.renew(wrong)
                    assert told["event"] == "serve.refused"
                    assert message in told["message"]
                    assert len(it.ask("/api/layers").json()["layers"]) == 2
                renamed = with_layer(other, "other", origin.template + "?other", title="Renamed")
                assert it.renew(renamed)["event"] == "serve.renewed"
                titles = [layer["title"] for layer in it.ask("/api/layers").json()["layers"]]
                assert titles == ["far", "Renamed"]
                assert it.renew(base) == {"event": "serve.renewed", "layers": ["far"]}
                assert it.ask(tile(1, "other")).status == 404
            assert asking.error is None
            assert set(asking.statuses) == {200}
            # Each worker asked for each tile once, however often the file was read.
            assert all(origin.requests_of(f"6/{x}/1") <= workers for x in (0, 2, 3))
            stats = it.ask("/api/stats").json()
            assert stats["layers"]["far"]["requests"] == len(asking.statuses)
            code, errors = it.end()
            assert code == 0
            assert errors.count("the configuration stays as it was") == 4


def test_a_request_under_way_ends_on_the_layer_it_began_with(tmp_path: Path) -> None:
    slow = MockSettings(faults=Faults(latency=Latency(ms=300)))
    with (
        MockThread(slow) as before,
        MockThread(MockSettings(seed=7)) as after,
        ServingProcess(tmp_path, config_of(before)) as it,
    ):
        answers: list[bytes] = []
        asking = threading.Thread(target=lambda: answers.append(it.ask(tile(1)).body))
        asking.start()
        while before.stats().peak_in_flight < 1:
            pass
        assert it.renew(config_of(after))["event"] == "serve.renewed"
        assert it.ask(tile(2)).body == after.body_of("6/2/1")
        asking.join()
        assert answers == [before.body_of("6/1/1")]
        assert it.end() == (0, "")


def test_tiles_of_another_source_are_forgotten(tmp_path: Path) -> None:
    """In memory and on disk; those of a layer that only looks otherwise are kept, with its new headers."""
    with MockThread() as one, MockThread() as two:
        base = config_of(one, cache={"disk": "10MB", "path": str(tmp_path / "cache")})
        with ServingProcess(tmp_path, base) as it:
            for _ in range(2):
                assert it.ask(tile(1)).status == 200
            it.renew(with_layer(base, "far", one.template, max_age=777))
            answer = it.ask(tile(1))
            assert answer.headers["X-Tile-Source"] == "memory"
            it.renew(with_layer(base, "far", two.template))
            assert it.ask(tile(1)).headers["X-Tile-Source"] == "origin"
            assert (one.stats().requests, two.stats().requests) == (1, 1)
            it.renew(base)
            assert it.ask(tile(1)).headers["X-Tile-Source"] == "origin"
            assert (one.stats().requests, two.stats().requests) == (2, 1)
            assert it.end() == (0, "")


def test_a_changed_header_of_the_answer_shows_in_what_is_in_memory(tmp_path: Path) -> None:
    """Finished answers are made anew."""
    with MockThread() as origin:
        base = config_of(origin)
        with ServingProcess(tmp_path, with_layer(base, "far", origin.template, max_age=100)) as it:
            it.ask(tile(1))
            assert it.ask(tile(1)).headers["Cache-Control"] == "public, max-age=100"
            it.renew(with_layer(base, "far", origin.template, max_age=200))
            answer = it.ask(tile(1))
            assert (answer.headers["X-Tile-Source"], answer.headers["Cache-Control"]) == (
                "memory",
                "public, max-age=200",
            )
            assert origin.stats().requests == 1
            assert it.end() == (0, "")


IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "tilehaul", "serve", *sys.argv[1:]])
"""


def test_a_terminal_that_is_closed_ends_the_service(tmp_path: Path) -> None:
    """It says so by SIGHUP too, which while the terminal is there means: read the file anew."""
    config = tmp_path / "tilehaul.yaml"
    config.write_text(json.dumps({"layers": {"here": {"source": str(tmp_path)}}}))
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", IN_A_TERMINAL, "--config", str(config), "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as child:
        os.close(theirs)
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["event"] == "serve.started"
        child.send_signal(signal.SIGHUP)
        assert json.loads(child.stdout.readline())["event"] == "serve.renewed"
        os.close(ours)
        assert child.wait(timeout=20) == 0
