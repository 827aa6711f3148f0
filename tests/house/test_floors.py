"""The floors of the house: a room imports only from floors below it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilehaul

ROOT = Path(tilehaul.__file__).parent

FLOORS: dict[str, int] = {
    "cli": 8, "compat": 8,
    "server": 7, "lab": 7, "blocking": 7,
    "wiring": 6,
    "config": 5,
    "jobs": 4,
    "net": 3, "stores": 3, "sources": 3, "catalog": 3,
    "ports": 2,
    "grid": 1, "codec": 1, "policy": 1, "pixels": 1,
    "errors": 0,
}  # fmt: skip

# `jobs` is two floors above `net`, yet must run on fakes alone.
FORBIDDEN = {"jobs": {"net", "stores", "sources", "catalog"}}

# The thinking rooms: no I/O, no clock, no async.
PURE = {"grid", "codec", "policy", "pixels"}
IMPURE_MODULES = {
    "asyncio", "socket", "threading", "time", "subprocess", "os", "pathlib", "shutil", "random",
    "tempfile", "http", "ssl", "sqlite3", "apsw", "requests", "httpx", "aiohttp", "pycurl", "pyreqwest",
}  # fmt: skip

# Known in `net` only, and there in two files.
WIRE_LIBRARIES = {"pycurl", "pyreqwest", "aiohttp", "httpx", "requests", "urllib3"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in FLOORS)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Every imported module's dotted name, late imports included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "tilehaul":
                yield from (f"tilehaul.{alias.name}" for alias in node.names)


def violations(path: Path, imported: list[str]) -> list[str]:
    room = room_of(path)
    found = []
    for name in imported:
        parts = name.split(".")
        if parts[0] == "tilehaul" and len(parts) > 1:
            other = parts[1]
            if other not in FLOORS or other == room:
                continue
            if FLOORS[other] >= FLOORS[room] or other in FORBIDDEN.get(room, set()):
                found.append(f"{path.relative_to(ROOT)} ({room}) imports {name} ({other})")
        elif room in PURE and parts[0] in IMPURE_MODULES:
            found.append(f"{path.relative_to(ROOT)} is pure and imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_from_floors_below(path: Path) -> None:
    """A room knows only what is below it."""
    assert violations(path, list(imports_of(path))) == []


@pytest.mark.parametrize(
    ("room", "imported", "bad"),
    [
        ("jobs", "tilehaul.net.wire", True),
        ("jobs", "tilehaul.ports.wire", False),
        ("grid", "tilehaul.codec.sniff", True),
        ("policy", "time", True),
        ("net", "tilehaul.stores.memory", True),
        ("net", "time", False),
        ("server", "tilehaul.lab.mock", True),
        ("cli", "tilehaul.lab.mock", False),
    ],
)
def test_rule_tells_good_from_bad(room: str, imported: str, bad: bool) -> None:  # noqa: FBT001
    """The rule itself can fail."""
    assert bool(violations(ROOT / room / "made_up.py", [imported])) is bad


def test_every_room_is_on_the_plan() -> None:
    """A new folder must be given a floor."""
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(FLOORS)


def test_two_files_know_the_http_library() -> None:
    """The HTTP library can be replaced in one place: what one transfer is, and the loop that drives them."""
    importers = {
        path.name
        for path in modules()
        if any(name.split(".")[0] in WIRE_LIBRARIES for name in imports_of(path))
    }
    assert importers == {"curl.py", "curl_loop.py"}


def test_async_functions_stay_out_of_the_pure_rooms() -> None:
    """Thinking needs no event loop."""
    for path in modules():
        if room_of(path) in PURE:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree)), path


# Longer ones need a reason that a reader would accept; these are the ends of patience.
FILE_LINES_MAX = 320
FUNCTION_LINES_MAX = 80


def test_files_and_functions_can_be_seen_whole() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= FILE_LINES_MAX, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, (path, node.name)
