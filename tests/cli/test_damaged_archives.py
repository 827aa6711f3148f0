"""Archives that were cut off, overwritten or made to mislead: one clear line, the right exit code."""

import json
import os
import random
import shutil
import struct
import tracemalloc
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.codec.pmtiles import HEADER_BYTES, PmtilesHeader, Span, header_bytes, packed
from tilehaul.codec.pmtiles_directory import ID_STOP, Entry, directory_bytes
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png

IDS = [TileId(z, x, y) for z in (0, 1, 2) for x in range(1 << z) for y in range(1 << z)]
BODIES = {tile_id: plain_png(tile_id) for tile_id in IDS}
# Exit codes of `contracts`: whole, usage (also a damaged archive), dead letters, stopped by the fuse.
TOLD = {0, 2, 3, 4}
MEMORY_MAX = 64 * 1024 * 1024


def command(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code and what was written of one command; what is not ours comes out as it is."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def check_told(code: int, err: str) -> None:
    assert code in TOLD
    assert "Traceback" not in err
    if code == 2:
        assert err.startswith("tilehaul: ")
        assert len(err.splitlines()) == 1, err
    assert all(c.isprintable() or c in "\n\r\t" for c in err)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tiles as a directory, an MBTiles and a PMTiles, made by tilehaul."""
    folder = tmp_path_factory.mktemp("whole")
    for tile_id, body in BODIES.items():
        path = folder / f"a/{tile_id.z}/{tile_id.x}/{tile_id.y}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    for kind in ("mbtiles", "pmtiles"):
        assert main(["seed", str(folder / "a"), str(folder / f"a.{kind}"), "-z", "0-2", "--quiet"]) == 0
    return folder


def cuts(kind: str, whole: Path) -> list[int]:
    """A point in each part of a file, at its ends, and a few by chance."""
    size = (whole / f"a.{kind}").stat().st_size
    points = {0, 1, 6, 7, 16, 99, 100, 126, 127, 128, size - 1}
    if kind == "pmtiles":
        words = struct.unpack_from("<8Q", (whole / "a.pmtiles").read_bytes(), 8)
        for offset, length in zip(words[::2], words[1::2], strict=True):
            points |= {offset, offset + length // 2, max(offset + length - 1, 0)}
    luck = random.Random(kind)
    return sorted(point for point in points | {luck.randrange(size) for _ in range(6)} if point < size)


@pytest.mark.parametrize("kind", ["mbtiles", "pmtiles"])
def test_file_cut_anywhere_is_told_of_and_never_taken_for_whole(
    capsys, tmp_path: Path, whole: Path, kind: str
) -> None:
    """Header, directories, metadata, tiles: no part of it is believed without its end."""
    body = (whole / f"a.{kind}").read_bytes()
    for point in cuts(kind, whole):
        path = tmp_path / f"cut.{kind}"
        path.write_bytes(body[:point])
        code, _, err = command(capsys, "info", path)
        check_told(code, err)
        assert (code, "cut." in err) == (2, True), point
        out = tmp_path / "out"
        code, _, err = command(capsys, "seed", path, out, "-z", "0-2")
        check_told(code, err)
        assert code != 0, point
        assert not list(out.rglob("*.png")) or code == 3
        shutil.rmtree(out, ignore_errors=True)
        for left in tmp_path.glob("out.*"):
            left.unlink()


@pytest.mark.parametrize("kind", ["mbtiles", "pmtiles"])
def test_wrong_bytes_are_told_of_or_do_no_harm(capsys, tmp_path: Path, whole: Path, kind: str) -> None:
    """What is copied out of a file with a few wrong bytes is a whole picture each; nothing else is kept."""
    body = (whole / f"a.{kind}").read_bytes()
    luck = random.Random(kind)
    codes = set()
    for _ in range(8):
        broken = bytearray(body)
        for _ in range(luck.choice([1, 3, 40])):
            broken[luck.randrange(len(broken))] = luck.randrange(256)
        path, out = tmp_path / f"odd.{kind}", tmp_path / "out"
        path.write_bytes(broken)
        code, _, err = command(capsys, "info", path, "--json")
        check_told(code, err)
        arguments = ("-z", "0-2", "--max-failures", "100%")
        code, _, err = command(capsys, "seed", path, out, *arguments)
        check_told(code, err)
        codes.add(code)
        for kept in out.rglob("*.png"):
            assert kept.read_bytes() in BODIES.values()
        shutil.rmtree(out, ignore_errors=True)
        for left in tmp_path.glob("out.*"):
            left.unlink()
    assert len(codes) > 1


def archive(path: Path, root: bytes, leaves: bytes = b"", said: bytes = b"{}", **numbers: int) -> Path:
    """A PMTiles file of given directories; `numbers` are header words to overwrite, by offset `at_N`."""
    root, metadata, leaf, data = packed(root), packed(said), packed(leaves) if leaves else b"", b"x" * 50
    spans, at = [], HEADER_BYTES
    for part in (root, metadata, leaf, data):
        spans.append(Span(at, len(part)))
        at += len(part)
    header = PmtilesHeader(
        *spans,
        1,
        1,
        1,
        clustered=True,
        tile_compression=1,
        tile_type=2,
        zoom_min=0,
        zoom_max=2,
        bounds_deg=(-180.0, -85.0, 180.0, 85.0),
        center=(0.0, 0.0, 0),
    )
    head = bytearray(header_bytes(header))
    for name, value in numbers.items():
        struct.pack_into("<Q", head, int(name.removeprefix("at_")), value)
    path.write_bytes(bytes(head) + root + metadata + leaf + data)
    return path


def varints(*numbers: int) -> bytes:
    out = bytearray()
    for number in numbers:
        left = number
        while left > 0x7F:
            out.append(left & 0x7F | 0x80)
            left >>= 7
        out.append(left)
    return bytes(out)


GOOD = directory_bytes([Entry(0, 1, 0, 50)])
HUGE = 1 << 60
BAD = {
    "root beyond the file": (GOOD, b"", {"at_8": HUGE}),
    "root of 2^60 bytes": (GOOD, b"", {"at_16": HUGE}),
    "metadata of 2^60 bytes": (GOOD, b"", {"at_32": HUGE}),
    "leaves of 2^60 bytes": (GOOD, b"", {"at_48": HUGE}),
    "tiles beyond 2^63": (GOOD, b"", {"at_56": (1 << 64) - 1}),
    "2^60 entries": (varints(HUGE, 0, 1, 50, 1), b"", {}),
    "2^20 entries in five bytes": (varints(1 << 20, 0, 1, 50, 1), b"", {}),
    "entry without length": (varints(1, 0, 1, 0, 1), b"", {}),
    "run past the last tile": (varints(1, 0, ID_STOP + 1, 50, 1), b"", {}),
    "runs that overlap": (varints(2, 0, 1, 9, 1, 50, 50, 1, 1), b"", {}),
    "run of 2^62 tiles": (varints(1, 0, 1 << 62, 50, 1), b"", {}),
    "tile behind the end": (varints(1, 0, 1, 50, HUGE), b"", {}),
    "no entries, and more": (varints(0, 0), b"", {}),
    "leaf without entries": (varints(1, 0, 0, 21, 1), varints(0), {}),
    "leaf that names itself": (varints(1, 0, 0, 28, 1), varints(1, 0, 0, 28, 1), {}),
    "leaf without leaves": (varints(1, 0, 0, 28, 1), b"", {}),
}


@pytest.mark.parametrize("name", BAD)
def test_absurd_archive_is_refused_in_bounded_memory(capsys, tmp_path: Path, name: str) -> None:
    root, leaves, numbers = BAD[name]
    path = archive(tmp_path / "a.pmtiles", root, leaves, **numbers)
    tracemalloc.start()
    try:
        code, _, err = command(capsys, "info", path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
    finally:
        tracemalloc.stop()
    check_told(code, err)
    assert code == 2
    assert "a.pmtiles" in err
    code, _, err = command(capsys, "seed", path, tmp_path / "out", "-z", "0-2")
    check_told(code, err)
    assert code != 0
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.png"))


def test_archive_without_a_tile_is_read(capsys, tmp_path: Path, whole: Path) -> None:
    """Nothing is missing in it, and so nothing is damaged; it can be added to as if it were new."""
    path = archive(tmp_path / "a.pmtiles", varints(0), at_72=0, at_80=0, at_88=0)
    code, out, _ = command(capsys, "info", path, "--json")
    assert (code, json.loads(out)["tiles"]) == (0, 0)
    code, out, _ = command(capsys, "verify", path)
    assert (code, "wrong: its root directory is empty" in out, "damaged" in out) == (1, True, False), out
    code, _, err = command(capsys, "copy", path, tmp_path / "b.mbtiles")
    assert (code, err) == (2, f"tilehaul: {path} has no tile\n")
    code, _, err = command(capsys, "copy", whole / "a.mbtiles", path)
    assert code == 0, err
    assert command(capsys, "verify", path)[0] == 0


def test_archive_of_good_directories_is_read(capsys, tmp_path: Path) -> None:
    """What the absurd ones are made from is no absurd one."""
    code, out, _ = command(capsys, "info", archive(tmp_path / "a.pmtiles", GOOD), "--json")
    assert (code, json.loads(out)["tiles"]) == (0, 1)


@pytest.mark.parametrize(
    "said",
    [
        rb'{"name": "\ud800"}',
        rb'{"\udfff": "x"}',
        rb'{"vector_layers": [{"id": "\ud83d\ud83d"}]}',
        b'{"name": "\xed\xa0\x80"}',
    ],
)
def test_half_a_character_in_the_metadata_is_told(capsys, tmp_path: Path, said: bytes) -> None:
    """Python's parser lets it pass, and nothing it is written to takes it."""
    path = archive(tmp_path / "a.pmtiles", GOOD, said=said)
    for words in (("info", path), ("verify", path), ("copy", path, tmp_path / "b.mbtiles")):
        code, _, err = command(capsys, *words)
        check_told(code, err)
        assert (code, "a.pmtiles" in err, "half a character" in err) == (2, True, True), err
    assert [left.name for left in tmp_path.iterdir()] == ["a.pmtiles"]


def test_half_a_character_in_a_text_that_is_json_itself_stops_no_job(
    capsys, tmp_path: Path, whole: Path
) -> None:
    """As the `json` row of MBTiles has it: text in the file added to, a character in the one made of it."""
    path = archive(tmp_path / "a.pmtiles", GOOD, said=json.dumps({"json": r'{"a": "\ud800"}'}).encode())
    code, _, err = command(capsys, "copy", whole / "a.mbtiles", path, "--force-source", "-z", "1")
    assert code == 0, err
    code, out, _ = command(capsys, "info", path, "--json")
    assert json.loads(out)["metadata"]["a"] == "?"


def test_whole_characters_beyond_the_first_plane_are_kept(capsys, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pmtiles", GOOD, said=rb'{"name": "\ud83d\ude00"}')
    code, out, _ = command(capsys, "info", path, "--json")
    assert (code, json.loads(out)["metadata"]["name"]) == (0, "\U0001f600")


@pytest.mark.parametrize("name", ["a.mbtiles", "a.pmtiles"])
@pytest.mark.parametrize(
    "content", [b"GIF89a" * 50, b"PMTiles\x02" + b"\0" * 200, b"SQLite format 3\0" + b"\xff" * 500]
)
def test_file_of_another_kind_is_called_so(capsys, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for arguments in (("info",), ("seed", "-z", "0"), ("serve", "--port", "0")):
        places = [tmp_path / name] + ([tmp_path / "out.mbtiles"] if arguments[0] == "seed" else [])
        code, _, err = command(capsys, arguments[0], *places, *arguments[1:])
        check_told(code, err)
        assert (code, name in err) == (2, True)
    assert not (tmp_path / "out.mbtiles").exists()


def test_tile_names_that_lead_elsewhere_are_no_tiles(capsys, tmp_path: Path) -> None:
    """Beside a good tile lie names that mean to reach out of the folder or to paint the terminal."""
    secret = tmp_path / "secret"
    secret.write_bytes(BODIES[IDS[0]])
    column = tmp_path / "a" / "1" / "0"
    column.mkdir(parents=True)
    (column / "0.png").write_bytes(BODIES[TileId(1, 0, 0)])
    for odd in ("..png", "-1.png", "1\x1b[31m.png", "1.png.exe", "%2e%2e.png", "9" * 40 + ".png", "1\n2.png"):
        (column / odd).write_bytes(b"x")
    (tmp_path / "a" / "1" / "..0").mkdir()
    (tmp_path / "a" / "1" / "1").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "2").symlink_to(tmp_path / "a" / "2")
    os.mkfifo(column / "1.png")
    code, out, err = command(capsys, "info", tmp_path / "a")
    check_told(code, err)
    assert code == 0
    assert "\x1b" not in out
    code, _, err = command(capsys, "seed", tmp_path / "a", tmp_path / "o.mbtiles", "-z", "0-2", "--json")
    assert code == 0, err
    code, out, _ = command(capsys, "info", tmp_path / "o.mbtiles", "--json")
    assert json.loads(out)["tiles"] == 1
