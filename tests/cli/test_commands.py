"""The commands as a person meets them: help, output, exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tilehaul.cli.common import span
from tilehaul.cli.main import main
from tilehaul.cli.watching import Watcher
from tilehaul.grid.area import Area
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.events import Progress

COMMANDS = ["seed", "copy", "serve", "info", "diff", "verify", "retry", "mock", "bench", "demo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_examples(capsys, command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"tilehaul {command}" in text.split("examples:")[1]


def test_help_lists_every_command_and_imports_no_engine() -> None:
    """`--help` within 300 ms means that nothing heavy is imported for it."""
    heavy = ["asyncio", "pycurl", "apsw", "starlette", "uvicorn", "msgspec", "yaml", "PIL", "tqdm", "uvloop"]
    code = (
        "import sys\nfrom tilehaul.cli.main import main\n"
        "try:\n main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in COMMANDS:
        assert f"\n    {command} " in done.stdout


def test_no_command_shows_the_help(capsys) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_module_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tilehaul", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("tilehaul 0.")


def test_seed_into_both_stores_then_info_and_again(capsys, tmp_path: Path) -> None:
    """The thinnest whole path through the terminal; the second run asks for nothing."""
    with MockThread(MockSettings(absence=Absence(share=0.2))) as server:
        for store in (tmp_path / "a.mbtiles", tmp_path / "tiles"):
            assert main(["seed", server.template, str(store), "-z", "0-3", "--json"]) == 0
            events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            report = events[-1]
            assert events[0]["event"] == "job.started"
            assert report["event"] == "job.report"
            assert report["planned"] == 85 == report["done"] + report["absent"]
            assert report["absent"] > 0
            before = server.stats().requests
            assert main(["seed", server.template, str(store), "-z", "0-3"]) == 0
            assert server.stats().requests == before
            assert "complete" in capsys.readouterr().err
            assert main(["info", str(store), "--json"]) == 0
            info = json.loads(capsys.readouterr().out)
            assert (info["state"], info["tiles"]) == ("complete", report["done"])
            assert main(["info", str(store)]) == 0
            assert "complete" in capsys.readouterr().out


def test_boxes_in_another_order_are_the_same_job(capsys, tmp_path: Path) -> None:
    """And a third box adds to it: what is there is not asked for again."""
    one, two, three = "--bbox=-5,44,17,48", "--bbox=10,40,20,50", "--bbox=170,-20,-170,20"
    area = Area.from_boxes([(-5, 44, 17, 48), (10, 40, 20, 50)], range(7))
    with MockThread() as server:
        source = ["seed", server.template, str(tmp_path / "a.mbtiles"), "-z", "0-6", "--quiet"]
        for boxes in ((one, two), (two, one), (two, one, two)):
            assert main([*source, *boxes]) == 0
            assert server.stats().requests == area.count()
        assert main([*source, one, two, three]) == 0
        more = Area.from_boxes([(-5, 44, 17, 48), (10, 40, 20, 50), (170, -20, -170, 20)], range(7))
        assert server.stats().requests == more.count()
    assert capsys.readouterr().err == ""


def test_seed_from_an_archive_into_a_directory(capsys, tmp_path: Path) -> None:
    """A stored source is a source like any other."""
    first, second = tmp_path / "a.mbtiles", tmp_path / "tiles"
    with MockThread() as server:
        assert main(["seed", server.template, str(first), "-z", "0-3", "--quiet"]) == 0
        body = server.body_of("3/4/2")
    assert main(["seed", str(first), str(second), "-z", "0-3", "--quiet"]) == 0
    assert (second / "3" / "4" / "2.png").read_bytes() == body
    assert capsys.readouterr().err == ""


def test_list_of_tiles_and_region_name_the_area(capsys, tmp_path: Path) -> None:
    listed = tmp_path / "tiles.txt"
    listed.write_text("# three\n3/4/2\n3/4/3\n\n3/4/2\n5/17/11\n")
    assert main(["seed", "x.mbtiles", "y.mbtiles", "--tiles", str(listed), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["planned"] == 3
    region = tmp_path / "region.geojson"
    region.write_text('{"type": "Polygon", "coordinates": [[[0,0],[45,0],[45,40],[0,40],[0,0]]]}')
    arguments = ["seed", "x", "y", "--region", str(region), "-z", "3", "--dry-run", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["planned"] == 1


def test_number_without_end_in_a_list_of_tiles_is_refused(capsys, tmp_path: Path) -> None:
    listed = tmp_path / "tiles.txt"
    listed.write_text(f"3/4/2\n3/4/{'1' * 5000}\n")
    assert main(["seed", "x.mbtiles", "y.mbtiles", "--tiles", str(listed), "--dry-run"]) == 2
    assert "line 2" in capsys.readouterr().err


def test_other_source_on_the_same_store_is_refused_unless_forced(capsys, tmp_path: Path) -> None:
    store = str(tmp_path / "a.mbtiles")
    with MockThread() as one, MockThread() as two:
        assert main(["seed", one.template, store, "-z", "0-1", "--quiet"]) == 0
        assert main(["seed", two.template, store, "-z", "0-2", "--quiet"]) == 2
        assert "--force-source" in capsys.readouterr().err
        assert two.stats().requests == 0
        assert main(["seed", two.template, store, "-z", "0-2", "--quiet", "--force-source"]) == 0
        assert two.stats().requests == 16


def test_dead_tiles_are_tried_again_by_the_same_command(capsys, tmp_path: Path) -> None:
    """Exit 3, then 0 once the origin is well; only the dead ones are asked for."""
    store = str(tmp_path / "a.mbtiles")
    with MockThread(MockSettings(seed=5, faults=Faults(errors={400: 0.3}))) as server:
        assert main(["seed", server.template, store, "-z", "0-2"]) == 3
        errors = capsys.readouterr().err
        dead = errors.count("http_400")
        assert 0 < dead < 21
        assert main(["info", store]) == 0
        assert "partial" in capsys.readouterr().out
        server.set_faults(Faults())
        before = server.stats().requests
        assert main(["seed", server.template, store, "-z", "0-2", "--quiet"]) == 0
        assert server.stats().requests - before == dead


def test_dead_tiles_of_another_job_are_not_listed(capsys, tmp_path: Path) -> None:
    """The end names the job's own failures only."""
    store = str(tmp_path / "a.mbtiles")
    with MockThread(MockSettings(faults=Faults(errors={400: 1.0}))) as server:
        assert main(["seed", server.template, store, "-z", "0-1"]) == 3
        assert capsys.readouterr().err.count("\ndead ") == 5
        assert main(["seed", server.template, store, "-z", "2", "--bbox=1,1,2,2"]) == 3
        assert capsys.readouterr().err.count("http_400") == 1


def test_archive_is_not_copied_onto_itself(capsys, tmp_path: Path) -> None:
    store = str(tmp_path / "a.mbtiles")
    with MockThread() as server:
        assert main(["seed", server.template, store, "-z", "0-1", "--quiet"]) == 0
    assert main(["seed", store, str(tmp_path / "." / "a.mbtiles"), "--force-source", "--overwrite"]) == 2
    assert "another store" in capsys.readouterr().err


def test_deadline_ends_the_job_in_good_order_and_it_can_go_on(capsys, tmp_path: Path) -> None:
    """Exit 130, what was fetched is kept, the message says how to go on; and so it does."""
    store = str(tmp_path / "a.mbtiles")
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=20)))) as server:
        job = ["seed", server.template, store, "-z", "0-4", "-c", "4"]
        assert main([*job, "--deadline", "0.2", "--quiet"]) == 130
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("tilehaul: the deadline of 0.2 s has come: ")
        assert line.endswith("tiles are pending; the same again goes on")
        first = server.stats().requests
        assert 0 < first < 341
        assert main([*job, "--deadline", "5m", "--json"]) == 0
        assert server.stats().requests == 341
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["state"], report["done"], report["skipped"]) == ("complete", 341, first)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200)])
def test_spans_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert span(text) == seconds


def test_serve_answers_and_ends_on_a_signal(tmp_path: Path) -> None:
    """`tilehaul serve world.mbtiles`: the tile, the page, the TileJSON, then a clean end."""
    store = tmp_path / "world.mbtiles"
    with MockThread() as origin:
        assert main(["seed", origin.template, str(store), "-z", "0-2", "--quiet"]) == 0
        body = origin.body_of("2/1/1")
    command = [sys.executable, "-m", "tilehaul", "serve", str(store), "--port", "0", "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        started = json.loads(child.stdout.readline())
        assert started["layers"] == ["world"]
        with urlopen(f"{started['url']}/api/tiles/world/2/1/1.png", timeout=10) as answer:
            assert answer.read() == body
            assert answer.headers["X-Tile-Source"] == "store"
        with urlopen(f"{started['url']}/api/tiles/world/2/1/1.png", timeout=10) as answer:
            assert answer.headers["X-Tile-Source"] == "memory"
        with urlopen(f"{started['url']}/api/tiles/world", timeout=10) as answer:
            assert json.load(answer)["maxzoom"] == 2
        with urlopen(started["url"], timeout=10) as answer:
            assert b"leaflet" in answer.read().lower()
    finally:
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=20)
    assert child.returncode == 0
    assert errors == ""


def test_bench_prints_each_level_and_reads_the_old_variables(tmp_path: Path) -> None:
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=2)))) as server:
        environment = {
            **os.environ, "TILE_BASE_URL": server.base_url, "MAX_CONCURRENCY": "5", "RETRIES": "0",
        }  # fmt: skip
        command = [sys.executable, "-m", "tilehaul", "bench", "--tile-count", "40", "--json"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        levels = [json.loads(line) for line in done.stdout.splitlines()]
        assert [level["concurrency"] for level in levels] == [1, 5]
        assert [level["tiles"] for level in levels] == [40, 40]
        assert server.stats().requests == 2 * 40 + 1 + 5
        assert server.stats().peak_in_flight == 5
        environment["RETRIES"] = "some"
        wrong = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert wrong.returncode == 2
        assert "RETRIES=some" in wrong.stderr


def test_no_bar_without_a_terminal_and_no_colour_with_no_color(monkeypatch) -> None:
    """A log file gets no control characters."""

    class Terminal:
        def __init__(self) -> None:
            self.text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    progress = Progress(5, 0, 0, 0, 0, 0, 10, 1234, 1.0, 5.0)
    terminal = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    watcher = Watcher(quiet=False, as_json=False, stream=terminal)  # type: ignore[arg-type]
    watcher(progress)
    watcher.close()
    assert "5/10" in terminal.text
    assert "\x1b[3" not in terminal.text
    quiet = Terminal()
    watcher = Watcher(quiet=True, as_json=False, stream=quiet)  # type: ignore[arg-type]
    watcher(progress)
    assert quiet.text == ""
