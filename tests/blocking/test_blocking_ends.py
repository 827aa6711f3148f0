"""Programs that end while something is under way, and hosts that embed Python: each in its own process."""

import importlib.metadata
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilehaul
from tilehaul import blocking
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

SOURCES = Path(tilehaul.__file__).parents[1]
# A program that hangs would wait for the upstream for minutes (first byte 30 s, six attempts).
HANGS_S = 20

BEGINNING = """
import atexit, sys, threading, time
import tilehaul
from tilehaul import blocking
template, store = sys.argv[1:]
area = tilehaul.Area.from_bbox(-180, -85, 180, 85, range(4))
begun = threading.Event()

def seed():
    print("begun", flush=True)
    try:
        blocking.seed(template, store, area, progress=lambda event: begun.set())
    except tilehaul.TilehaulError as error:
        print("told", error.cause, flush=True)

def read():
    with blocking.open(template) as source:
        begun.set()
        try:
            source.get(tilehaul.TileId(0, 0, 0))
        except tilehaul.TilehaulError as error:
            print("told", error.cause, flush=True)

def run(work, daemon):
    threading.Thread(target=work, daemon=daemon).start()
    begun.wait(10)
    time.sleep(0.1)  # until the request is under way: no claim depends on it
"""


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/{{z}}/{{x}}/{{y}}.png"


def ended(script: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run to the end. Raises subprocess.TimeoutExpired when it hangs."""
    command = [sys.executable, *options, "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=False)


@pytest.mark.parametrize(
    ("work", "daemon", "end", "code"),
    [
        ("seed", True, "pass", 0),
        ("seed", False, "sys.exit(3)", 3),
        ("read", True, "sys.exit(3)", 3),
        ("read", False, "raise RuntimeError('crash of the caller')", 1),
    ],
)
def test_program_ends_although_a_request_is_stuck(
    tmp_path: Path, black_hole: str, work: str, daemon: object, end: str, code: int
) -> None:
    store = tmp_path / "a.mbtiles"
    done = ended(f"{BEGINNING}\nrun({work}, daemon={daemon})\n{end}\n", black_hole, str(store))
    assert done.returncode == code, done.stderr
    if not daemon:
        assert "told closed" in done.stdout
    assert done.stderr.count("Traceback") == (code == 1), done.stderr
    assert not (tmp_path / "a.mbtiles.lock").exists()


def test_source_that_was_never_closed_does_not_hold_the_end_up(tmp_path: Path, black_hole: str) -> None:
    """Its generator is torn down when Python has frozen every daemon thread."""
    script = f"{BEGINNING}\nmanager = blocking.open(template)\nsource = manager.__enter__()\n"
    done = ended(script, black_hole, str(tmp_path / "a.mbtiles"))
    assert (done.returncode, done.stderr) == (0, "")


def test_what_came_before_the_end_is_kept(tmp_path: Path) -> None:
    """A daemon thread is cut off in the middle; a second run goes on from there."""
    store = str(tmp_path / "a.mbtiles")
    script = f"""{BEGINNING}
enough = threading.Event()

def seed():
    options = tilehaul.SeedOptions(sending=tilehaul.Sending(concurrency=2))
    look = lambda event: getattr(event, "done", 0) > 10 and enough.set()
    try:
        blocking.seed(template, store, area, options=options, progress=look)
    except tilehaul.UnreachableError:
        pass  # told, or frozen before it could be: the program is at its end

threading.Thread(target=seed, daemon=True).start()
enough.wait(10)
"""
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=20)))) as server:
        done = ended(script, server.template, store)
        assert (done.returncode, done.stderr) == (0, "")
        server.set_faults(Faults())
        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, range(4))
        report = blocking.seed(server.template, store, area)
        assert report.state == "complete"
        assert report.skipped > 10


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal to send there")
def test_ctrl_c_keeps_what_came_and_lets_the_store_go(tmp_path: Path) -> None:
    store = tmp_path / "a.mbtiles"
    # Whoever runs these tests in the background may ignore the signal, and so would their children.
    script = f"""{BEGINNING}
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
options = tilehaul.SeedOptions(sending=tilehaul.Sending(concurrency=2))
try:
    blocking.seed(template, store, area, options=options,
                  progress=lambda event: getattr(event, "done", 0) > 10 and print("enough", flush=True))
except KeyboardInterrupt:
    print("interrupted", [thread.name for thread in threading.enumerate()])
"""
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=30)))) as server:
        command = [sys.executable, "-c", script, server.template, str(store)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert "enough" in child.stdout.readline()
            child.send_signal(signal.SIGINT)
            said, errors = child.communicate(timeout=HANGS_S)
        assert (child.returncode, errors) == (0, "")
        assert "interrupted ['MainThread']" in said
        assert not (tmp_path / "a.mbtiles.lock").exists()
        server.set_faults(Faults())
        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, range(4))
        kept = area.count() - len(list(blocking.missing(str(store), area)))
        assert kept > 10
        assert blocking.seed(server.template, str(store), area).requests == area.count() - kept


def embedded(folder: Path) -> str:
    """A folder with tilehaul and what it cannot do without, and nothing else: no Pillow, no extras."""
    names = {"tilehaul"}
    for requirement in importlib.metadata.requires("tilehaul") or []:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is not None and "extra" not in requirement:
            names.add(name[0])
    (folder / "tilehaul").symlink_to(SOURCES / "tilehaul")
    for name in names - {"tilehaul"}:
        tops = {Path(str(file)).parts[0] for file in importlib.metadata.files(name) or []}
        for top in tops - {"..", "__pycache__", "bin"}:
            place = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if place.exists() and not (folder / top).exists():
                (folder / top).symlink_to(place)
    return str(folder)


def test_embedded_interpreter_without_extras_or_terminal(tmp_path: Path) -> None:
    """As Blender and QGIS have it on Windows: no site, no environment, no standard streams."""
    folder = tmp_path / "python"
    folder.mkdir()
    script = """
        import sys
        folder, template, store, result = sys.argv[1:]
        sys.path.append(folder)
        sys.stdin = sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None
        import tilehaul
        from tilehaul import blocking

        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, range(3))
        events = []
        report = blocking.seed(template, store, area, progress=events.append)
        with blocking.open(store) as source:
            tile = source.get(tilehaul.TileId(0, 0, 0))
        with open(result, "w") as file:
            print(report.state, len(tile.body) > 0, "PIL" in sys.modules, "site" in sys.modules, file=file)
    """
    result = tmp_path / "result"
    with MockThread() as server:
        store = str(tmp_path / "a.mbtiles")
        done = ended(
            script, embedded(folder), server.template, store, str(result), options=("-I", "-S", "-E")
        )
    assert done.returncode == 0, done.stderr
    assert result.read_text().split() == ["complete", "True", "False", "False"]
