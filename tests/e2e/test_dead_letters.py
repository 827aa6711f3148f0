"""Dead letters over a real wire: replayed after a repair, by cause, killed in the middle, dropped."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tilehaul
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.policy.causes import class_of
from tilehaul.ports.store import StoreInfo
from tilehaul.wiring.places import open_archive

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(5))
PLANNED = 341
STORES = ("out.mbtiles", "out")
# With no retries a drawn fault is a dead letter at once: three classes of them.
BROKEN = MockSettings(
    tile_bytes=2000, seed=54, faults=Faults(errors={500: 0.15, 403: 0.05}, shares={"empty_200": 0.1})
)
ONCE = tilehaul.SeedOptions(
    sending=tilehaul.Sending(concurrency=8, retries=0), max_failures=tilehaul.FailureLimit()
)


async def seen(path: Path) -> tuple[dict[tilehaul.TileId, bytes], StoreInfo]:
    """Every tile with its bytes, and what the archive says of itself."""
    archive = open_archive(str(path))
    try:
        kept = {}
        async for tile_id in archive.tile_ids():
            tile = await archive.get(tile_id)
            assert isinstance(tile, tilehaul.Tile)
            kept[tile_id] = tile.body
        return kept, await archive.describe()
    finally:
        await archive.close()


async def letters_of(path: Path, *causes: str) -> list[tilehaul.DeadLetter]:
    return [letter async for letter in tilehaul.dead_letters(str(path), causes=causes)]


def tables(path: Path) -> set[str]:
    """Of an MBTiles file, or of the journal beside a directory."""
    connection = sqlite3.connect(path if path.is_file() else f"{path}.journal")
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


@pytest.mark.parametrize("name", STORES)
async def test_54_dlq_replay(tmp_path: Path, name: str) -> None:
    """After a repair: one request a dead letter, none dead, no journal left, the seed asks for nothing."""
    damaged, whole = tmp_path / name, tmp_path / f"whole-{name}"
    async with MockServer(BROKEN) as server:
        first = await tilehaul.seed(server.template, str(damaged), AREA, options=ONCE)
        letters = await letters_of(damaged)
        assert first.state == "dead_letters"
        assert len(letters) == first.dead > 50
        assert {class_of(letter.cause) for letter in letters} == {"server", "client", "body"}
        assert all(letter.at_s > 1.7e9 and letter.attempts == 1 for letter in letters)
        assert (await seen(damaged))[1].state == "partial"

        server.set_faults(Faults())
        before = server.stats().requests
        replay = await tilehaul.retry(str(damaged), server.template)
        assert server.stats().requests - before == len(letters)
        assert (replay.state, replay.planned, replay.done) == ("complete", len(letters), len(letters))
        assert await letters_of(damaged) == []

        before = server.stats().requests
        again = await tilehaul.seed(server.template, str(damaged), AREA)
        assert server.stats().requests == before
        assert (again.state, again.done, again.skipped) == ("complete", PLANNED, PLANNED)

        await tilehaul.seed(server.template, str(whole), AREA)
        (content, info), (expected, expected_info) = await seen(damaged), await seen(whole)
        assert content == expected == {tile_id: server.body_of(tile_id) for tile_id in AREA}
        assert (info.state, info.dead, info.absent, info.dropped) == ("complete", 0, 0, 0)
        assert info.metadata | {"name": ""} == expected_info.metadata | {"name": ""}
        assert tables(damaged) == tables(whole)


@pytest.mark.parametrize("name", STORES)
async def test_replay_by_cause_asks_for_no_other_tile(tmp_path: Path, name: str) -> None:
    """A class or a fine cause; what fails again is dead with its new cause; the rest waits."""
    path = tmp_path / name
    async with MockServer(BROKEN) as server:
        await tilehaul.seed(server.template, str(path), AREA, options=ONCE)
        letters = await letters_of(path)
        refused = await letters_of(path, "http_403")
        assert refused == [letter for letter in letters if letter.cause == "http_403"] != []
        asked = {letter.tile_id: server.requests_of(letter.tile_id) for letter in letters}

        server.set_faults(Faults(errors={502: 1.0}))
        report = await tilehaul.retry(str(path), server.template, causes=["client"], options=ONCE)
        assert (report.state, report.planned, report.dead) == ("dead_letters", len(refused), len(refused))
        assert [letter.tile_id for letter in await letters_of(path, "http_502")] == [
            letter.tile_id for letter in refused
        ]
        again = {tile_id for tile_id, count in asked.items() if server.requests_of(tile_id) > count}
        assert again == {letter.tile_id for letter in refused}
        info = (await seen(path))[1]
        assert (info.state, info.dead) == ("partial", len(letters))
        assert sum(info.dead_causes.values()) == info.dead

        server.set_faults(Faults())
        rest = await tilehaul.retry(str(path), server.template, causes=["server", "empty"])
        assert rest.state == "complete"
        assert (await seen(path))[1].state == "complete"


@pytest.mark.parametrize("name", STORES)
async def test_tile_that_turns_out_absent_is_absent_for_the_seed_too(tmp_path: Path, name: str) -> None:
    """The counts of the job stay exact, so that its next run tells the truth without a look-up."""
    path = tmp_path / name
    settings = MockSettings(seed=5, faults=Faults(errors={500: 0.3}), absence=Absence(share=0.3))
    async with MockServer(settings) as server:
        await tilehaul.seed(server.template, str(path), AREA, options=ONCE)
        server.set_faults(Faults())
        replay = await tilehaul.retry(str(path), server.template)
        assert (replay.state, replay.dead) == ("complete", 0)
        assert replay.absent > 10
        absent = sum(server.is_absent(tile_id) for tile_id in AREA)
        before = server.stats().requests
        again = await tilehaul.seed(server.template, str(path), AREA)
        assert (again.state, again.absent, again.done) == ("complete", absent, PLANNED - absent)
        assert server.stats().requests == before


@pytest.mark.parametrize("name", STORES)
async def test_dropped_tiles_are_neither_dead_nor_done(tmp_path: Path, name: str) -> None:
    """Nothing is sent; the archive is complete without them and says so; an overwrite brings them back."""
    path = tmp_path / name
    async with MockServer(BROKEN) as server:
        first = await tilehaul.seed(server.template, str(path), AREA, options=ONCE)
        server.set_faults(Faults())
        bad = await letters_of(path, "body")
        before = server.stats().requests
        told: list[tilehaul.DeadLetter] = []
        assert await tilehaul.drop_dead_letters(str(path), causes=["empty"], told=told.append) == len(bad)
        assert told == bad
        assert (await seen(path))[1].state == "partial"
        assert await tilehaul.drop_dead_letters(str(path)) == first.dead - len(bad)
        content, info = await seen(path)
        assert (info.state, info.dropped, info.dead) == ("complete", first.dead, 0)
        assert len(content) == first.done

        again = await tilehaul.seed(server.template, str(path), AREA)
        assert (again.state, again.done, again.dropped) == ("complete", first.done, first.dead)
        assert server.stats().requests == before
        assert (await seen(path))[1].dropped == first.dead

        over = tilehaul.SeedOptions(overwrite=True)
        whole = await tilehaul.seed(server.template, str(path), AREA, options=over)
        assert (whole.done, whole.dropped) == (PLANNED, 0)
        content, info = await seen(path)
        assert (len(content), info.dropped, info.state) == (PLANNED, 0, "complete")


async def test_replay_of_another_source_is_refused_unless_forced(tmp_path: Path) -> None:
    """Then its tiles come from the mirror, and the archive stays what it was: the first seed goes on."""
    path = str(tmp_path / "out.mbtiles")
    async with MockServer(BROKEN) as server, MockServer(MockSettings(tile_bytes=2000)) as mirror:
        first = await tilehaul.seed(server.template, path, AREA, options=ONCE)
        with pytest.raises(tilehaul.PlanError, match="--force-source"):
            await tilehaul.retry(path, mirror.template)
        assert mirror.stats().requests == 0
        forced = tilehaul.SeedOptions(force_source=True)
        report = await tilehaul.retry(path, mirror.template, options=forced)
        assert (report.state, report.done, mirror.stats().requests) == ("complete", first.dead, first.dead)
        before = server.stats().requests
        assert (await tilehaul.seed(server.template, path, AREA)).state == "complete"
        assert server.stats().requests == before


async def test_interrupted_replay_leaves_the_rest_dead(tmp_path: Path) -> None:
    path = tmp_path / "out.mbtiles"
    async with MockServer(BROKEN) as server:
        first = await tilehaul.seed(server.template, str(path), AREA, options=ONCE)
        server.set_faults(Faults(latency=Latency(ms=10)))
        stop = tilehaul.Stop()

        def watch(_event: object) -> None:
            if server.stats().requests > PLANNED + 10:
                stop.drain()

        slow = tilehaul.SeedOptions(sending=tilehaul.Sending(concurrency=1))
        report = await tilehaul.retry(str(path), server.template, options=slow, watch=watch, stop=stop)
        assert report.state == "interrupted"
        assert 0 < report.pending < first.dead
        assert len(await letters_of(path)) == report.pending
        rest = await tilehaul.retry(str(path), server.template)
        assert (rest.state, rest.planned) == ("complete", report.pending)


@pytest.mark.parametrize("name", STORES)
def test_replay_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    """`kill -9`: what was committed is asked for once, the rest is still dead, the end is the same."""
    path = tmp_path / name
    with MockThread(BROKEN) as server:
        first = tilehaul.blocking.seed(server.template, str(path), AREA, options=ONCE)
        server.set_faults(Faults(latency=Latency(ms=15)))
        command = [sys.executable, "-m", "tilehaul", "retry", str(path), "--source", server.template]
        child = subprocess.Popen([*command, "-c", "1", "--quiet"], stderr=subprocess.PIPE)
        while server.stats().requests < PLANNED + first.dead // 2:
            assert child.poll() is None, child.communicate()
            time.sleep(0.005)
        child.kill()
        child.communicate(timeout=20)
        left = asyncio.run(letters_of(path))
        assert 0 < len(left) < first.dead
        before = server.stats().requests
        server.set_faults(Faults())
        assert subprocess.run([*command, "--quiet"], timeout=60, check=False).returncode == 0
        assert server.stats().requests - before == len(left)
        expected = {tile_id: server.body_of(tile_id) for tile_id in AREA}
        before = server.stats().requests
        assert tilehaul.blocking.seed(server.template, str(path), AREA).done == PLANNED
        assert server.stats().requests == before
    with tilehaul.blocking.open(str(path)) as archive:
        assert {tile_id: archive.get(tile_id).body for tile_id in AREA} == expected  # type: ignore[union-attr]
    assert not {"tilehaul_outcome", "tilehaul_dead_letter"} & tables(path)
