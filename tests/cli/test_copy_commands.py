"""`copy`, `diff`, `verify` and `--report` as a person meets them."""

import json
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.tile import NoTile
from tilehaul.stores.directory_reader import DirectoryReader
from tilehaul.stores.mbtiles import MbtilesStore

TILES = [TileId(0, 0, 0), *(TileId(1, x, y) for x in (0, 1) for y in (0, 1)), TileId(3, 5, 2)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A small MBTiles of another program, with credits."""
    path = tmp_path / "world.mbtiles"
    write(path, {tile_id: plain_png(tile_id) for tile_id in TILES})
    return path


def write(path: Path, bodies: dict[TileId, bytes], **rows: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
    connection.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
    said = {"name": "World", "format": "png", "attribution": "us", "minzoom": "0", "maxzoom": "3"} | rows
    connection.executemany("INSERT INTO metadata VALUES (?, ?)", said.items())
    connection.executemany(
        "INSERT INTO tiles VALUES (?, ?, ?, ?)",
        [(i.z, i.x, (1 << i.z) - 1 - i.y, body) for i, body in bodies.items()],
    )
    connection.commit()
    connection.close()


def ran(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_any_kind_into_any_kind_and_back(capsys, archive: Path, tmp_path: Path) -> None:
    chain = [archive, tmp_path / "a.pmtiles", tmp_path / "b", tmp_path / "c.mbtiles"]
    for source, store in pairwise(chain):
        code, _, err = ran(capsys, "copy", source, store)
        assert code == 0, err
        assert "6 of 6 tiles done" in err
    code, out, _ = ran(capsys, "diff", archive, chain[-1], "--json")
    assert code == 0
    assert json.loads(out)["same"] is True
    _, out, _ = ran(capsys, "info", chain[-1], "--json")
    metadata = json.loads(out)["metadata"]
    said = [metadata[name] for name in ("name", "attribution", "format", "minzoom", "maxzoom")]
    assert said == ["World", "us", "png", "0", "3"]
    for store in chain[1:]:
        code, out, _ = ran(capsys, "verify", store)
        assert (code, out) == (0, "fine: 6 tiles read: 6 image/png\n")


def test_a_second_copy_moves_nothing_and_a_grown_source_only_what_is_new(
    capsys, archive: Path, tmp_path: Path
) -> None:
    store = tmp_path / "copy.mbtiles"
    ran(capsys, "copy", archive, store)
    _, _, err = ran(capsys, "copy", archive, store)
    assert "6 of 6 tiles done, 6 settled before" in err
    new = TileId(3, 0, 0)
    connection = sqlite3.connect(archive)
    connection.execute("INSERT INTO tiles VALUES (3, 0, 7, ?)", (plain_png(new),))
    connection.commit()
    connection.close()
    code, _, err = ran(capsys, "copy", archive, store)
    assert code == 0
    assert "7 of 7 tiles done, 6 settled before" in err
    assert f"{len(plain_png(new))} B" in err


def test_an_area_restricts_to_what_is_there(capsys, archive: Path, tmp_path: Path) -> None:
    code, out, _ = ran(capsys, "copy", archive, tmp_path / "x", "-z", "1-30", "--dry-run", "--json")
    assert (code, json.loads(out)) == (0, {"planned": 5, "by_zoom": {"1": 4, "3": 1}})
    assert not (tmp_path / "x").exists()
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x", "--bbox=10,10,20,20", "-z", "0-2")
    assert code == 0
    assert "2 of 2 tiles done, 0 absent" in err
    boxes = ("--bbox=10,10,20,20", "--bbox", "-20,-20,-10,-10")
    code, out, _ = ran(capsys, "copy", archive, tmp_path / "y", *boxes, "-z", "0-2", "--dry-run", "--json")
    assert json.loads(out) == {"planned": 3, "by_zoom": {"0": 1, "1": 2}}
    code, _, err = ran(capsys, "copy", archive, tmp_path / "y", "-z", "9")
    assert code == 2
    assert "has no tile in that area" in err


def test_the_tiles_of_another_archive(capsys, archive: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.mbtiles"
    write(few, {TILES[0]: b"never read", TileId(2, 0, 0): b"not in the source"})
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x.pmtiles", "--tiles-of", few)
    assert code == 0
    assert "1 of 2 tiles done, 1 absent" in err


def test_a_tile_service_needs_an_area(capsys, tmp_path: Path) -> None:
    code, _, err = ran(capsys, "copy", "http://127.0.0.1:9/{z}/{x}/{y}.png", tmp_path / "x.mbtiles")
    assert code == 2
    assert "--tiles-of ARCHIVE" in err
    assert not (tmp_path / "x.mbtiles").exists()


def test_damaged_tiles_die_and_the_report_says_so(capsys, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mbtiles"
    write(bad, {TILES[0]: plain_png(TILES[0]), TILES[1]: plain_png(TILES[1])[:-5]})
    report = tmp_path / "report.json"
    code, _, err = ran(capsys, "copy", bad, tmp_path / "x", "--report", report)
    assert code == 3
    assert "dead 1/0/0 truncated" in err
    told = json.loads(report.read_text())
    assert (told["state"], told["done"], told["dead"]) == ("dead_letters", 1, 1)
    code, out, _ = ran(capsys, "verify", bad, "--json")
    assert code == 1
    assert json.loads(out)["named"] == [{"tile": "1/0/0", "cause": "truncated"}]


def test_a_job_that_is_stopped_leaves_a_report_too(capsys, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mbtiles"
    write(bad, dict.fromkeys(TILES, b"<html>no tile</html>"))
    report = tmp_path / "report.json"
    code, _, _ = ran(capsys, "copy", bad, tmp_path / "x", "--max-failures", "1", "--report", report)
    assert code == 4
    assert json.loads(report.read_text())["state"] == "stopped"


def test_a_report_without_a_folder_is_refused_before_anything_is_made(
    capsys, archive: Path, tmp_path: Path
) -> None:
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x", "--report", tmp_path / "no" / "r.json")
    assert code == 2
    assert "--report" in err
    assert not (tmp_path / "x").exists()


def test_diff_names_what_differs(capsys, archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mbtiles"
    bodies = {tile_id: plain_png(tile_id) for tile_id in TILES}
    del bodies[TILES[1]]
    bodies[TILES[2]] = plain_png(TILES[3])
    bodies[TileId(2, 1, 1)] = plain_png(TileId(2, 1, 1))
    write(other, bodies)
    code, out, _ = ran(capsys, "diff", archive, other, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["tiles"] == {
        "only_a": ["1/0/0"],
        "only_b": ["2/1/1"],
        "different": [str(TILES[2])],
        "damaged_a": [],
        "damaged_b": [],
    }
    assert found["by_zoom"]["1"] == {
        "same": 2, "different": 1, "only_a": 1, "only_b": 0, "damaged_a": 0, "damaged_b": 0,
    }  # fmt: skip
    code, out, _ = ran(capsys, "diff", archive, other)
    assert f"only in {archive}: 1/0/0\n" in out
    assert ran(capsys, "diff", archive, other, "-z", "0,3")[0] == 0


def test_diff_goes_on_past_damaged_tiles(capsys, archive: Path, tmp_path: Path) -> None:
    """What cannot be read is counted on its side; all else is compared as if it were not there."""
    other = tmp_path / "other.mbtiles"
    bodies = {tile_id: plain_png(tile_id) for tile_id in TILES}
    write(other, bodies | {TILES[2]: plain_png(TILES[3])})
    unreadable = (
        "UPDATE tiles SET tile_data = 'words' WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
    )
    for path, places in ((archive, [(0, 0, 0), (3, 5, 5)]), (other, [(0, 0, 0), (1, 1, 1)])):
        with closing(sqlite3.connect(path)) as connection, connection:
            assert connection.executemany(unreadable, places).rowcount == 2
    code, out, err = ran(capsys, "diff", archive, other, "--json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert found["tiles"] == {
        "only_a": [],
        "only_b": [],
        "different": [str(TILES[2])],
        "damaged_a": ["0/0/0", "3/5/2"],
        "damaged_b": ["0/0/0", "1/1/0"],
    }
    assert found["by_zoom"]["1"] == {
        "same": 2, "different": 1, "only_a": 0, "only_b": 0, "damaged_a": 0, "damaged_b": 1,
    }  # fmt: skip
    code, out, _ = ran(capsys, "diff", archive, other)
    assert code == 1
    assert f"damaged in {archive}: 3/5/2\n" in out
    assert "zoom  0  0 same, 0 different, 0 only in A, 0 only in B, 1 damaged in A, 1 damaged in B\n" in out
    # Damage alone is a difference too.
    assert ran(capsys, "diff", archive, archive, "-z", "3")[0] == 1


def test_an_update_replaces_what_is_damaged_and_tells_what_it_cannot(
    capsys, archive: Path, tmp_path: Path
) -> None:
    store = tmp_path / "copy.mbtiles"
    ran(capsys, "copy", archive, store)
    for path, zoom in ((store, 0), (archive, 3)):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE tiles SET tile_data = 'words' WHERE zoom_level = ?", (zoom,))
    code, _, err = ran(capsys, "copy", archive, store, "--update")
    assert code == 3
    assert "5 of 6 tiles done, 4 settled before" in err
    assert "dead 3/5/2 corrupt_archive" in err
    assert ran(capsys, "diff", archive, store, "-z", "0-1")[0] == 0


def test_verify_holds_an_archive_to_its_word(capsys, tmp_path: Path) -> None:
    liar = tmp_path / "liar.mbtiles"
    bodies = {tile_id: plain_png(tile_id) for tile_id in TILES[:5]}
    write(liar, bodies, format="webp", maxzoom="9", bounds="10,10,20,20")
    code, out, _ = ran(capsys, "verify", liar)
    assert code == 1
    assert "wrong: its format is image/webp, 5 tiles are image/png" in out
    assert "wrong: its maxzoom is 9, that of its tiles 1" in out
    assert "wrong: its bounds are 10,10,20,20, 3 tiles of zoom 1 lie outside" in out


def test_verify_counts_a_pmtiles_header_again(capsys, archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pmtiles"
    ran(capsys, "copy", archive, path)
    body = bytearray(path.read_bytes())
    # Bytes 72 to 79 of the header: how many tiles are addressed.
    body[72] = 9
    path.write_bytes(body)
    code, out, _ = ran(capsys, "verify", path)
    assert code == 1
    assert "wrong: its header counts 9 tiles, there are 6" in out


def test_pictures_become_another_format_and_a_resume_in_a_third_is_refused(
    capsys, archive: Path, tmp_path: Path
) -> None:
    store = tmp_path / "small.mbtiles"
    code, _, err = ran(capsys, "copy", archive, store, "--format", "webp", "--quality", "60")
    assert code == 0, err
    assert ran(capsys, "verify", store)[1] == "fine: 6 tiles read: 6 image/webp\n"
    _, out, _ = ran(capsys, "info", store, "--json")
    metadata = json.loads(out)["metadata"]
    assert (metadata["name"], metadata["format"]) == ("World", "webp")
    code, _, err = ran(capsys, "copy", archive, store, "--format", "jpg")
    assert code == 2
    assert f"World as webp q60 ({archive}), not of World as jpg q80 ({archive})" in err


def test_a_quality_without_a_format_is_refused(capsys, archive: Path, tmp_path: Path) -> None:
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x", "--quality", "60")
    assert code == 2
    assert "--format" in err


@pytest.mark.parametrize("name", ["x.mbtiles", "x.pmtiles", "x"])
def test_an_update_into_nothing_copies_all(capsys, archive: Path, tmp_path: Path, name: str) -> None:
    code, _, err = ran(capsys, "copy", archive, tmp_path / name, "--update")
    assert code == 0
    assert "6 of 6 tiles done, 0 absent" in err


def test_an_update_moves_only_what_differs(capsys, archive: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy.pmtiles"
    ran(capsys, "copy", archive, store)
    _, _, err = ran(capsys, "copy", archive, store, "--update")
    assert "6 of 6 tiles done, 6 settled before" in err
    assert " 0 B," in err
    connection = sqlite3.connect(archive)
    changed = plain_png(TileId(9, 9, 9))
    connection.execute("UPDATE tiles SET tile_data = ? WHERE zoom_level = 3", (changed,))
    connection.commit()
    connection.close()
    # The counts are the same as before: only bytes can tell.
    assert ran(capsys, "copy", archive, store)[0] == 0
    assert ran(capsys, "diff", archive, store)[0] == 1
    code, _, err = ran(capsys, "copy", archive, store, "--update")
    assert code == 0
    assert "6 of 6 tiles done, 5 settled before" in err
    assert f" {len(changed)} B," in err
    assert ran(capsys, "diff", archive, store)[0] == 0
    code, _, err = ran(capsys, "copy", archive, store, "--update", "--format", "webp")
    assert code == 2
    assert "compares the bytes" in err


@pytest.mark.parametrize("name", ["world.mbtiles", "other.MBTILES", "a.pmtiles", "a.gpkg", "a.journal"])
@pytest.mark.parametrize(
    "words", [("copy", "{archive}", "{folder}/b", "--report"), ("info", "{archive}", "--png")]
)
def test_no_report_and_no_picture_takes_the_place_of_an_archive(
    capsys, archive: Path, tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    before = archive.read_bytes()
    said = [word.format(archive=archive, folder=tmp_path) for word in words]
    code, _, err = ran(capsys, *said, tmp_path / name)
    assert (code, archive.read_bytes()) == (2, before)
    assert "would take the place of an archive" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world.mbtiles"]


def test_missing_tiles_are_listed_and_can_be_seeded(capsys, archive: Path, tmp_path: Path) -> None:
    """One a line, as `--tiles` reads them."""
    code, out, _ = ran(capsys, "info", archive, "--missing", "-z", "0-2")
    missing = out.split()
    assert code == 0
    assert len(missing) == 16
    assert "1/0/0" not in missing
    (tmp_path / "list").write_text(out)
    code, out, _ = ran(capsys, "seed", archive, tmp_path / "b", "--tiles", tmp_path / "list", "--dry-run")
    assert (code, "16 tiles" in out) == (0, True)
    assert ran(capsys, "info", archive, "--missing", "--json")[0] == 2


def test_vector_tiles_are_not_begun_to_become_pictures(capsys, tmp_path: Path) -> None:
    """Told at once, with nothing written."""
    vector = bytes([0x1A, 0x05, 0x0A, 0x01, 0x61, 0x78, 0x02])
    write(tmp_path / "v.mbtiles", {TileId(0, 0, 0): vector}, format="pbf")
    code, _, err = ran(capsys, "copy", tmp_path / "v.mbtiles", tmp_path / "b.mbtiles", "--format", "jpg")
    assert code == 2
    assert "has vector tiles" in err
    assert not (tmp_path / "b.mbtiles").exists()


def test_folder_with_an_archives_name_is_no_file(capsys, tmp_path: Path) -> None:
    for name in ("a.mbtiles", "a.pmtiles", "a.gpkg"):
        (tmp_path / name).mkdir()
        code, _, err = ran(capsys, "info", tmp_path / name)
        assert (code, "is no file" in err) == (2, True), err


def test_overwrite_that_was_ended_says_how_to_go_on(capsys, archive: Path, tmp_path: Path) -> None:
    """Not by leaving the flag out: then what was not reached would count as settled."""
    ran(capsys, "copy", archive, tmp_path / "b.mbtiles")
    code, _, err = ran(
        capsys, "copy", archive, tmp_path / "b.mbtiles", "--overwrite", "--deadline", "0.000001"
    )
    assert code == 130
    assert "with --overwrite (it begins from the start)" in err or "begins anew" in err


def test_tiles_that_go_while_they_are_copied_are_not_absent(capsys, tmp_path: Path, monkeypatch) -> None:
    """A folder that disappears for a moment: the same command asks again, and the copy is whole."""
    for tile_id in TILES:
        path = tmp_path / "a" / str(tile_id.z) / str(tile_id.x) / f"{tile_id.y}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain_png(tile_id))
    get = DirectoryReader.get

    def hidden(self: DirectoryReader, tile_id: TileId):  # type: ignore[no-untyped-def]
        return NoTile(tile_id, "not_stored", "store") if tile_id.z == 1 else get(self, tile_id)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryReader, "get", hidden)
        code, _, err = ran(capsys, "copy", tmp_path / "a", tmp_path / "b.mbtiles")
    assert code == 3
    assert err.count(" vanished\n") == 4
    assert ran(capsys, "copy", tmp_path / "a", tmp_path / "b.mbtiles")[0] == 0
    assert ran(capsys, "diff", tmp_path / "a", tmp_path / "b.mbtiles")[0] == 0


@pytest.mark.parametrize("kind", ["mbtiles", "pmtiles", "gpkg"])
def test_file_that_is_replaced_while_it_is_copied(
    capsys, archive: Path, tmp_path: Path, monkeypatch, kind
) -> None:
    """Perhaps half of it is of the old file: said, with what to do, and not called complete."""
    source, other = tmp_path / f"a.{kind}", tmp_path / f"other.{kind}"
    ran(capsys, "copy", archive, source)
    write(tmp_path / "new.mbtiles", {tile_id: plain_png(TileId(4, tile_id.x, 9)) for tile_id in TILES})
    ran(capsys, "copy", tmp_path / "new.mbtiles", other)
    finish = MbtilesStore.commit

    async def replacing(self: MbtilesStore, outcomes) -> None:  # type: ignore[no-untyped-def]
        if other.exists():
            other.replace(source)
        await finish(self, outcomes)

    with monkeypatch.context() as patched:
        patched.setattr(MbtilesStore, "commit", replacing)
        code, _, err = ran(capsys, "copy", source, tmp_path / "b.mbtiles")
    assert code == 5
    assert "was changed or replaced while it was copied" in err
    assert "run the same" not in err
    code, _, err = ran(capsys, "copy", source, tmp_path / "b.mbtiles")
    assert (code, "has changed since: then " in err) == (2, True)
    assert ran(capsys, "copy", source, tmp_path / "b.mbtiles", "--update")[0] == 0
    assert ran(capsys, "diff", source, tmp_path / "b.mbtiles")[0] == 0


def test_flags_that_would_change_nothing_are_refused(capsys, archive: Path, tmp_path: Path) -> None:
    """Rather than be accepted and ignored; nothing is made."""
    store = tmp_path / "new.pmtiles"
    for flags, says in (
        (["--rate-limit", "5"], "--rate-limit holds back requests"),
        (["--compression", "none"], "zips vector tiles in any case"),
        (["--compression", "gzip"], "has image/png"),
        (["--compression", "gzip", "--format", "png"], "give one"),
    ):
        code, _, err = ran(capsys, "copy", archive, store, *flags)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert says in err
    assert ran(capsys, "seed", archive, store, "-z", "0", "--rate-limit", "5")[0] == 2
    assert not store.exists()
    vector = tmp_path / "vector.mbtiles"
    write(vector, {TileId(0, 0, 0): b"\x1a\x02\x0a\x00"}, format="pbf")
    assert "has vector tiles" in ran(capsys, "copy", vector, tmp_path / "c.mbtiles", "--format", "png")[2]
    assert ran(capsys, "copy", vector, tmp_path / "b.pmtiles", "--compression", "gzip")[0] == 0


REQUEST_FLAGS = [
    ("-c", ["-c", "4"]),
    ("--fixed", ["--fixed"]),
    ("--timeout", ["--timeout", "5"]),
    ("--retries", ["--retries", "0"]),
    ("-H", ["-H", "X-Key: 1"]),
    ("--contact", ["--contact", "me@example.com"]),
    ("--tls-roots", ["--tls-roots", "roots.pem"]),
    ("--allow-private", ["--allow-private", "10.0.0.1:80"]),
    ("--providers", ["--providers", "mine.yaml"]),
]


@pytest.mark.parametrize(("flag", "typed"), REQUEST_FLAGS)
def test_flags_for_requests_are_refused_between_archives_of_this_machine(
    capsys, archive: Path, tmp_path: Path, flag: str, typed: list[str]
) -> None:
    """And those that no request to a bucket heeds."""
    store, picture = tmp_path / "b.pmtiles", tmp_path / "p.png"
    picture.write_bytes(plain_png(TILES[0]))
    for words in (
        ("copy", archive, store),
        ("copy", archive, store, "--dry-run"),
        ("copy", archive, store, "--tiles-of", archive),
        ("copy", picture, store, "--pixels"),
        ("seed", archive, store, "-z", "0"),
        ("retry", archive, "--source", archive),
    ):
        code, out, err = ran(capsys, *words, *typed)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert f"{flag}: for requests, and none is sent: " in err
        assert "on this machine: leave it out" in err
    for words in (("copy", archive, "s3://b/x"), ("copy", "s3://b/x.pmtiles", store)):
        if flag in ("-H", "--allow-private"):
            code, out, err = ran(capsys, *words, *typed)
            assert (code, out, err.count(f"{flag}: for tile services and files on the web")) == (2, "", 1), (
                err
            )
    assert not store.exists()


def test_a_contact_from_the_environment_is_for_whoever_needs_one(
    capsys, archive: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("TILEHAUL_CONTACT", "me@example.com")
    assert ran(capsys, "copy", archive, tmp_path / "b.pmtiles")[0] == 0


def test_another_source_of_the_same_name_is_told_by_its_place(
    capsys, archive: Path, tmp_path: Path, monkeypatch
) -> None:
    other = tmp_path / "other" / "world.mbtiles"
    other.parent.mkdir()
    other.write_bytes(archive.read_bytes())
    store = tmp_path / "store.mbtiles"
    assert ran(capsys, "copy", archive, store)[0] == 0
    code, _, err = ran(capsys, "copy", other, store)
    assert code == 2
    assert f"holds tiles of World ({archive}), not of World ({other}); choose another store" in err
    # As typed in two folders, both have one name; a path is not kept longer than it was written.
    monkeypatch.chdir(tmp_path)
    assert ran(capsys, "copy", "world.mbtiles", "b.mbtiles")[0] == 0
    monkeypatch.chdir(other.parent)
    code, _, err = ran(capsys, "copy", "world.mbtiles", tmp_path / "b.mbtiles")
    assert code == 2
    assert "holds tiles of another World (world.mbtiles) than the one named now; choose" in err
    _, out, _ = ran(capsys, "info", tmp_path / "b.mbtiles", "--json")
    assert json.loads(out)["metadata"]["name"] == "World"
    assert str(tmp_path) not in str(json.loads(out)["metadata"])


def test_directory_with_rows_from_the_south(capsys, archive: Path, tmp_path: Path) -> None:
    """There and back, and nothing is named with braces."""
    tms = f"{tmp_path}/tms/{{z}}/{{x}}/{{-y}}"
    assert ran(capsys, "copy", archive, tms)[0] == 0
    assert (tmp_path / "tms/3/5/5.png").exists()
    assert ran(capsys, "verify", tms)[0] == 0
    assert ran(capsys, "copy", tms, tmp_path / "back.mbtiles")[0] == 0
    assert ran(capsys, "diff", archive, tmp_path / "back.mbtiles")[0] == 0
    code, _, err = ran(capsys, "copy", archive, tmp_path / "tms")
    assert (code, "counted from the other end" in err) == (2, True)
    for wrong in ("x/{z}/{x}/{-y}.png", "x/{z}_{x}_{y}", "x/{z}"):
        code, _, err = ran(capsys, "copy", archive, tmp_path / wrong)
        assert (code, "FOLDER/{z}/{x}/{-y}" in err) == (2, True)
    assert not (tmp_path / "x").exists()


def test_folder_of_no_name_has_its_journal_beside_it(
    capsys, archive: Path, tmp_path: Path, monkeypatch
) -> None:
    """`.` with an ending is another name, within the folder."""
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    monkeypatch.chdir(tiles)
    code, _, err = ran(capsys, "copy", archive, ".")
    assert code == 0, err
    assert sorted(path.name for path in tiles.iterdir()) == ["0", "1", "3"]
    assert (tmp_path / "tiles.journal").is_file()
    code, _, err = ran(capsys, "copy", archive, tiles)
    assert (code, "6 settled before" in err) == (0, True), err


def test_source_that_is_named_by_a_link_is_no_store(capsys, archive: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.mbtiles"
    link.symlink_to(archive)
    code, _, err = ran(capsys, "copy", archive, link)
    assert (code, "is the source as well as the store" in err) == (2, True), err


@pytest.mark.parametrize(
    "name", ["tiles.zip", "tiles.zip/", "tiles.2024", "tiles.v1.5", "tiles.osm/{z}/{x}/{-y}"]
)
def test_directory_may_have_a_dot_in_its_name(
    capsys, archive: Path, tmp_path: Path, monkeypatch, name: str
) -> None:
    """One that is there, one that is called a directory, and one whose ending is no file's."""
    monkeypatch.chdir(tmp_path)
    if name == "tiles.zip":
        Path(name).mkdir()
    code, _, err = ran(capsys, "copy", archive, name)
    assert (code, "6 of 6 tiles done" in err) == (0, True), err
    assert len(list(tmp_path.glob("tiles.*/*/*/*.png"))) == 6
    code, _, err = ran(capsys, "copy", archive, name)
    assert (code, "6 settled before" in err) == (0, True), err


def test_archive_of_a_kind_that_is_not_known_is_not_made_a_directory(
    capsys, archive: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = ran(capsys, "copy", archive, "x.zip")
    assert (code, ".mbtiles, .pmtiles and .gpkg are known" in err, "x.zip/" in err) == (2, True, True), err
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]
