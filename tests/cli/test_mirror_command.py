"""`copy --update --delete`: the store becomes what the source is, or nothing is deleted and why."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png

TILES = [TileId(z, x, y) for z in (0, 1, 2) for x in range(1 << z) for y in range(1 << z)]
STORES = ("b.mbtiles", "b.gpkg", "b.pmtiles", "b")
GONE = [TileId(0, 0, 0), *(tile_id for tile_id in TILES if tile_id.z == 2)]


def write(root: Path, tile_ids: list[TileId]) -> None:
    for tile_id in tile_ids:
        path = root / f"{tile_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain_png(tile_id))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of 21 tiles."""
    write(tmp_path / "a", TILES)
    return tmp_path / "a"


def shrink(source: Path, tile_ids: list[TileId]) -> None:
    for tile_id in tile_ids:
        (source / f"{tile_id}.png").unlink()


def ran(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def count(capsys, store: Path) -> int:
    return int(json.loads(ran(capsys, "info", store, "--json")[1])["tiles"])


@pytest.mark.parametrize("name", STORES)
def test_a_mirror_deletes_and_says_so(capsys, source: Path, tmp_path: Path, name: str) -> None:
    store = tmp_path / name
    assert ran(capsys, "copy", source, store)[0] == 0
    shrink(source, GONE)
    code, out, _ = ran(capsys, "copy", source, store, "--update", "--delete", "--dry-run", "--json")
    assert (code, json.loads(out)) == (0, {"planned": 4, "by_zoom": {"1": 4}, "delete": {"0": 1, "2": 16}})
    code, out, _ = ran(capsys, "copy", source, store, "--update", "--delete", "--dry-run")
    assert "would delete 0/0/0\n" in out
    assert "17 tiles would be deleted" in out
    # Without the flag they stay, and so they do after a dry run.
    assert ran(capsys, "copy", source, store, "--update")[0] == 0
    assert count(capsys, store) == 21
    code, out, err = ran(capsys, "copy", source, store, "--update", "--delete", "--json")
    assert code == 0
    assert "4 of 4 tiles done, 4 settled before, 0 absent, 0 retried, 0 dead, 17 deleted" in err
    assert json.loads(out.splitlines()[-1])["deleted"] == 17
    assert ran(capsys, "diff", source, store)[0] == 0
    # Zooms and bounds are those of what is left.
    code, out, _ = ran(capsys, "verify", store)
    assert (code, out) == (0, "fine: 4 tiles read: 4 image/png\n")
    code, _, err = ran(capsys, "copy", source, store, "--update", "--delete")
    assert (code, "deleted" in err, count(capsys, store)) == (0, False, 4)


@pytest.mark.parametrize("name", STORES)
def test_what_a_mirror_has_deleted_comes_back_with_the_source(
    capsys, source: Path, tmp_path: Path, name: str
) -> None:
    """Whatever wrote it before: the very job of the first copy, or a journal that a dead letter keeps."""
    store = tmp_path / name
    ran(capsys, "copy", source, store)
    shrink(source, GONE)
    assert ran(capsys, "copy", source, store, "--update", "--delete")[0] == 0
    write(source, GONE[:5])
    (source / "1/1/1.png").write_bytes(b"no tile")
    # A dead letter keeps the journal.
    assert ran(capsys, "copy", source, store, "--overwrite", "--max-failures", "100%")[0] == 3
    shrink(source, GONE[1:5])
    write(source, [TileId(1, 1, 1)])
    assert ran(capsys, "copy", source, store, "--update", "--delete")[0] == 0
    assert json.loads(ran(capsys, "info", store, "--json")[1])["state"] == "complete"
    write(source, GONE)
    code, _, err = ran(capsys, "copy", source, store)
    assert (code, "21 of 21 tiles done, 5 settled before, 0 absent" in err) == (0, True), err
    assert ran(capsys, "diff", source, store)[0] == 0


@pytest.mark.parametrize("name", STORES)
def test_a_mirror_of_another_format_says_so(capsys, source: Path, tmp_path: Path, name: str) -> None:
    store, other = tmp_path / name, tmp_path / "other.mbtiles"
    assert ran(capsys, "copy", source, store)[0] == 0
    shrink(source, GONE)
    assert ran(capsys, "copy", source, other, "--format", "jpg")[0] == 0
    assert ran(capsys, "copy", other, store, "--update", "--delete", "--force-source")[0] == 0
    assert ran(capsys, "verify", store)[:2] == (0, "fine: 4 tiles read: 4 image/jpeg\n")
    assert json.loads(ran(capsys, "info", store, "--json")[1])["metadata"]["format"] == "jpg"


@pytest.mark.parametrize("name", STORES)
def test_a_dead_letter_of_a_tile_that_the_source_has_no_more_goes(
    capsys, source: Path, tmp_path: Path, name: str
) -> None:
    store = tmp_path / name
    for tile_id in GONE[:3]:
        (source / f"{tile_id}.png").write_bytes(b"no tile")
    assert ran(capsys, "copy", source, store, "--max-failures", "100%")[0] == 3
    shrink(source, GONE)
    assert ran(capsys, "copy", source, store, "--update")[0] == 0
    assert json.loads(ran(capsys, "info", store, "--json")[1])["dead"] == 3
    code, _, err = ran(capsys, "copy", source, store, "--update", "--delete")
    assert (code, "14 deleted" in err) == (0, True)
    told = json.loads(ran(capsys, "info", store, "--json")[1])
    assert (told["state"], told["dead"], told["tiles"]) == ("complete", 0, 4)


def test_in_an_area_the_rest_stays(capsys, source: Path, tmp_path: Path) -> None:
    store = tmp_path / "b.mbtiles"
    ran(capsys, "copy", source, store)
    shrink(source, GONE[1:])
    code, _, err = ran(capsys, "copy", source, store, "--update", "--delete", "-z", "1-2", "--bbox=1,1,2,2")
    assert (code, "1 deleted" in err) == (0, True)
    assert count(capsys, store) == 20


def test_nothing_is_deleted_while_a_tile_is_dead(capsys, source: Path, tmp_path: Path) -> None:
    store = tmp_path / "b.mbtiles"
    ran(capsys, "copy", source, store)
    shrink(source, GONE)
    (source / "1/0/0.png").write_bytes(plain_png(TileId(1, 0, 0))[:-5])
    code, _, err = ran(capsys, "copy", source, store, "--update", "--delete", "--quiet")
    assert code == 3
    assert "nothing was deleted" in err
    assert count(capsys, store) == 21
    write(source, [TileId(1, 0, 0)])
    assert ran(capsys, "copy", source, store, "--update", "--delete")[0] == 0
    assert ran(capsys, "diff", source, store)[0] == 0


@pytest.mark.parametrize("area", [(), ("-z", "0-2")])
def test_an_empty_source_empties_nothing(capsys, source: Path, tmp_path: Path, area: tuple[str, ...]) -> None:
    store = tmp_path / "b.mbtiles"
    ran(capsys, "copy", source, store)
    shrink(source, TILES)
    for more in ((), ("--dry-run",)):
        code, _, err = ran(capsys, "copy", source, store, "--update", "--delete", *area, *more)
        assert (code, "has no tile: --delete would empty the store" in err) == (2, True)
    assert count(capsys, store) == 21


def test_a_source_that_is_not_complete_is_no_model(capsys, source: Path, tmp_path: Path) -> None:
    """What its own job has still to bring would be deleted."""
    middle, store = tmp_path / "m.mbtiles", tmp_path / "b.mbtiles"
    ran(capsys, "copy", source, middle)
    ran(capsys, "copy", middle, store)
    (source / "2/0/0.png").write_bytes(b"no tile")
    assert ran(capsys, "copy", source, middle, "--overwrite", "--max-failures", "100%")[0] == 3
    code, _, err = ran(capsys, "copy", middle, store, "--update", "--delete")
    assert (code, "is not complete itself (1 dead tiles" in err) == (2, True)
    assert count(capsys, store) == 21


def test_what_cannot_be_a_mirror_is_refused(capsys, source: Path, tmp_path: Path) -> None:
    code, _, err = ran(capsys, "copy", source, tmp_path / "b", "--delete")
    assert (code, "--delete goes with --update" in err) == (2, True)
    for more in ((), ("--dry-run",)):
        code, _, err = ran(
            capsys, "copy", source, tmp_path / "b", "--update", "--delete", "--tiles-of", source, *more
        )
        assert (code, "leave out --tiles-of" in err) == (2, True)
    assert not (tmp_path / "b").exists()


def test_a_source_that_cannot_be_read_to_its_end_deletes_nothing(
    capsys, source: Path, tmp_path: Path
) -> None:
    middle, store = tmp_path / "m.mbtiles", tmp_path / "b.mbtiles"
    ran(capsys, "copy", source, middle)
    ran(capsys, "copy", middle, store)
    with closing(sqlite3.connect(middle)) as connection, connection:
        connection.execute("DELETE FROM tiles WHERE zoom_level = 2")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tiles'").fetchone()[0]
    with middle.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    code, _, err = ran(capsys, "copy", middle, store, "--update", "--delete")
    assert (code, "m.mbtiles" in err) == (2, True)
    assert count(capsys, store) == 21
