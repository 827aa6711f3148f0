"""Tiles that are old are asked for again, only if they have changed: counted at a server."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import tilehaul
from doubles.origins import KINDS, Origin
from tilehaul.cli.main import main
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.wiring.places import open_archive

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
PLANNED = 85
SOME = 20
STORES = ("out.mbtiles", "out", "out.pmtiles", "out.gpkg")
KEEP = tilehaul.SeedOptions(
    sending=tilehaul.Sending(concurrency=8, retries=0),
    durability="fast",
    max_failures=tilehaul.FailureLimit(),
    keep_freshness=True,
)
ALL_OLD = replace(KEEP, refresh_older_s=0.0)
MONTH_OLD = replace(KEEP, refresh_older_s=30 * 86400.0)
NOW = MockSettings(tile_bytes=2000)


async def bodies(path: Path) -> dict[tilehaul.TileId, bytes]:
    archive = open_archive(str(path))
    try:
        kept = {}
        async for tile_id in archive.tile_ids():
            tile = await archive.get(tile_id)
            assert isinstance(tile, tilehaul.Tile)
            kept[tile_id] = tile.body
        return kept
    finally:
        await archive.close()


def change(store: Path, sql: str) -> int:
    """Change the notes beside the store; how many rows."""
    with closing(sqlite3.connect(f"{store}.freshness")) as notes, notes:
        return notes.execute(sql).rowcount


@pytest.mark.parametrize("name", STORES)
async def test_what_has_not_changed_costs_no_body_and_is_fresh_afterwards(tmp_path: Path, name: str) -> None:
    store = tmp_path / name
    async with MockServer(NOW) as server:
        await tilehaul.seed(server.template, str(store), AREA, options=KEEP)
        before = await bodies(store)
        server.reset()
        fresh = await tilehaul.seed(server.template, str(store), AREA, options=MONTH_OLD)
        assert (fresh.state, fresh.skipped, server.stats().requests) == ("complete", PLANNED, 0)
        assert change(store, f"UPDATE checked SET checked_at = 9 WHERE z = 3 AND y * 8 + x < {SOME}") == SOME
        report = await tilehaul.seed(server.template, str(store), AREA, options=MONTH_OLD)
        assert (report.state, report.done, report.skipped) == ("complete", PLANNED, PLANNED - SOME)
        assert (report.unchanged, report.requests, report.bytes) == (SOME, SOME, 0)
        assert (fresh.unchanged, fresh.bytes) == (0, 0)
        stats = server.reset()
        assert (stats.requests, dict(stats.by_status), stats.bytes_sent) == (SOME, {304: SOME}, 0)
        await tilehaul.seed(server.template, str(store), AREA, options=MONTH_OLD)
        assert server.stats().requests == 0
    assert await bodies(store) == before


@pytest.mark.parametrize("name", STORES)
async def test_what_has_changed_is_replaced_and_what_is_gone_is_absent(tmp_path: Path, name: str) -> None:
    store = tmp_path / name
    gone = tilehaul.TileId(3, 1, 1)
    async with MockServer(NOW) as server:
        await tilehaul.seed(server.template, str(store), AREA, options=KEEP)
        template, port = server.template, urlsplit(server.base_url).port
    later = replace(NOW, port=port, tile_bytes=3000, absence=Absence(when=lambda tile_id: tile_id == gone))
    async with MockServer(later) as server:
        report = await tilehaul.seed(template, str(store), AREA, options=ALL_OLD)
        assert (report.state, report.done, report.absent) == ("complete", PLANNED - 1, 1)
        assert dict(server.stats().by_status) == {200: PLANNED - 1, 404: 1}
        assert (report.unchanged, report.bytes) == (0, 3000 * (PLANNED - 1))
    kept = await bodies(store)
    assert len(kept) == PLANNED - 1
    assert {len(body) for body in kept.values()} == {3000}
    assert gone not in kept


@pytest.mark.parametrize("name", STORES)
async def test_a_failure_leaves_the_old_bytes_and_the_next_run_asks_on_condition(
    tmp_path: Path, name: str
) -> None:
    store = tmp_path / name
    async with MockServer(NOW) as server:
        await tilehaul.seed(server.template, str(store), AREA, options=KEEP)
        before = await bodies(store)
        server.set_faults(Faults(errors={500: 0.3}))
        broken = await tilehaul.seed(server.template, str(store), AREA, options=ALL_OLD)
        assert broken.state == "dead_letters"
        assert broken.dead > 5
        assert await bodies(store) == before
        server.set_faults(Faults())
        server.reset()
        again = await tilehaul.seed(server.template, str(store), AREA, options=ALL_OLD)
        assert again.state == "complete"
        assert dict(server.stats().by_status) == {304: PLANNED}
    assert await bodies(store) == before


async def test_a_server_without_etags_is_asked_by_date(tmp_path: Path) -> None:
    store = tmp_path / "out.mbtiles"
    async with MockServer(replace(NOW, etags=False)) as server:
        await tilehaul.seed(server.template, str(store), AREA, options=KEEP)
        server.reset()
        report = await tilehaul.seed(server.template, str(store), AREA, options=ALL_OLD)
        assert (report.state, report.unchanged) == ("complete", PLANNED)
        assert dict(server.stats().by_status) == {304: PLANNED}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pmtiles"])
async def test_every_kind_of_service_is_asked_only_for_what_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Then one tile's bytes here are not those of its note: it alone is sent again, or its picture."""
    store, area = tmp_path / "out.mbtiles", tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[1])
    # The capabilities of the WMTS declare one tile of this zoom; one picture of the WMS is all four.
    done, requests = (1 if kind.startswith("wmts") else 4), (4 if kind in ("xyz", "tms", "bucket") else 1)
    with Origin() as origin:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "key-of-test")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", origin.url)
        monkeypatch.setenv("TILEHAUL_STATE", str(tmp_path / "state"))
        origin.headers = {"ETag": '"a-1"'}
        place = origin.location(kind)
        assert (await tilehaul.seed(place, str(store), area, options=KEEP)).done == done
        before = await bodies(store)
        origin.asked.clear()
        report = await tilehaul.seed(place, str(store), area, options=ALL_OLD)
        assert (report.state, report.done, report.unchanged) == ("complete", done, done)
        assert origin.asked == [(("etag", '"a-1"'), 304, 0)] * requests
        assert await bodies(store) == before
        assert change(store, "UPDATE checked SET digest = x'00' WHERE x = 1 AND y = 0") == 1
        origin.asked.clear()
        report = await tilehaul.seed(place, str(store), area, options=ALL_OLD)
        assert (report.state, report.unchanged) == ("complete", done - 1)
        assert [asked.status for asked in origin.asked].count(304) == requests
        assert [asked.status for asked in origin.asked].count(200) == 1
        origin.headers, origin.shade = {"ETag": '"a-2"'}, 2
        report = await tilehaul.seed(place, str(store), area, options=ALL_OLD)
        assert (report.state, report.done, report.unchanged) == ("complete", done, 0)
    after = await bodies(store)
    assert after.keys() == before.keys()
    assert all(after[tile_id] != before[tile_id] for tile_id in before)


async def test_a_note_of_other_bytes_is_not_believed(tmp_path: Path) -> None:
    """Another run may have replaced the tile since: then "not modified" says nothing of what is kept."""
    store = tmp_path / "out.mbtiles"
    async with MockServer(NOW) as server:
        await tilehaul.seed(server.template, str(store), AREA, options=KEEP)
        assert change(store, "UPDATE checked SET digest = x'00' WHERE z = 2") == 16
        server.reset()
        report = await tilehaul.seed(server.template, str(store), AREA, options=ALL_OLD)
        assert report.state == "complete"
        assert dict(server.stats().by_status) == {304: PLANNED, 200: 16}


async def test_without_notes_the_age_is_that_of_the_store_before_the_first_refresh(tmp_path: Path) -> None:
    store = tmp_path / "out.mbtiles"
    async with MockServer(NOW) as server:
        await tilehaul.seed(server.template, str(store), AREA, options=replace(KEEP, keep_freshness=False))
        assert not Path(f"{store}.freshness").exists()
        server.reset()
        await tilehaul.seed(server.template, str(store), AREA, options=MONTH_OLD)
        assert server.stats().requests == 0
        change(store, "UPDATE base SET checked_at = 9")
        await tilehaul.seed(server.template, str(store), AREA, options=MONTH_OLD)
        assert dict(server.stats().by_status) == {200: PLANNED}


def test_the_command_refreshes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "out.mbtiles")
    with MockThread(NOW) as server:
        command = ["seed", server.template, store, "-z", "0-3", "--quiet"]
        assert main([*command, "--keep-freshness"]) == 0
        server.reset()
        assert main([*command, "--refresh-older-than", "30d"]) == 0
        assert server.stats().requests == 0
        assert change(Path(store), "UPDATE checked SET checked_at = 9") == PLANNED
        report = tmp_path / "report.json"
        assert not capsys.readouterr().err
        again = [*command[:-1], "--refresh-older-than", "30d", "--json", "--report", str(report)]
        assert main(again) == 0
        assert dict(server.stats().by_status) == {304: PLANNED}
        told = capsys.readouterr()
        assert f"{PLANNED} of {PLANNED} tiles done, {PLANNED} unchanged, 0 absent" in told.err
        events = [json.loads(line) for line in told.out.splitlines()]
        assert (events[-1]["unchanged"], events[-1]["bytes"]) == (PLANNED, 0)
        assert json.loads(report.read_text())["unchanged"] == PLANNED
        assert main([*command, "--refresh-older-than", "30d", "--overwrite"]) == 2
        assert main([*command, "--refresh-older-than", "30d", "--format", "jpg"]) == 2
    assert main(["seed", store, str(tmp_path / "b"), "-z", "0", "--refresh-older-than", "30d"]) == 2
    assert "need a tile service or a bucket as the source" in capsys.readouterr().err
