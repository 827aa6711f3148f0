"""Buckets against a real server of the S3 API, which checks signatures, digests and conditions."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tilehaul import blocking
from tilehaul.cli.main import main
from tilehaul.compat.r2_tiles import R2TileCache
from tilehaul.config.load import parse_settings
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.mock import MockThread
from tilehaul.net.addresses import AddressGuard, host_port_of
from tilehaul.net.wire import Wire
from tilehaul.ports.store import JobKey, Outcome
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request, Signing
from tilehaul.stores.bucket import BucketStore
from tilehaul.wiring.layers import open_layers
from tilehaul.wiring.places import open_archive

pytestmark = pytest.mark.servers
WEED = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
KEY, SECRET = "testkey", "canary-secret-12345"
START_S = 30.0


def _free_ports(count: int) -> list[int]:
    """Below 55000: the server takes a second port 10,000 above each."""
    ports: list[int] = []
    probes = []
    for number in range(20_000, 54_000, 7):
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            probe.close()
            continue
        probes.append(probe)
        ports.append(number)
        if len(ports) == count:
            break
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if WEED is None:
        pytest.skip("SeaweedFS (weed) is not installed")
    folder = tmp_path_factory.mktemp("weed")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    master, volume, filer, s3 = _free_ports(4)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(WEED, "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}"),
                *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
                *(f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0"),
                *("-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"),
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    url = f"http://127.0.0.1:{s3}"
    try:
        _await(f"{url}/healthz", server, folder / "log")
        assert asyncio.run(_make_bucket(url)) in (200, 409)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    ends_s = time.monotonic() + START_S
    while time.monotonic() < ends_s and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"SeaweedFS did not start: {log.read_text(errors='replace')[-500:]}")


async def _make_bucket(url: str) -> int:
    guard = AddressGuard(frozenset({host_port_of(url)}))
    async with Wire("test", guard=guard, signing=Signing("us-east-1", KEY, SECRET)) as wire:
        return (await wire.send(Request(f"{url}/tiles", "PUT", expect="any"))).status


@pytest.fixture
def environ(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("TILEHAUL_STATE", str(tmp_path / "state"))


@pytest.mark.usefixtures("environ")
def test_seed_into_the_bucket_go_on_and_read_it_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MockThread() as server:
        arguments = ["seed", server.template, "s3://tiles/world", "-z", "0-3", "--quiet"]
        assert main(arguments) == 0
        asked = server.stats().requests
        assert main(arguments) == 0
        assert server.stats().requests == asked == 85
        with blocking.open(server.template) as source, blocking.open("s3://tiles/world") as kept:
            for tile_id in Area.from_bbox(-180, -85, 180, 85, zooms=range(4)):
                here, there = source.get(tile_id), kept.get(tile_id)
                assert isinstance(here, Tile)
                assert isinstance(there, Tile)
                assert (here.body, here.media_type) == (there.body, there.media_type)
    with blocking.open("s3://tiles/world") as kept:
        assert getattr(kept.get(TileId(9, 1, 1)), "cause", "") == "not_stored"
    assert asyncio.run(_count("s3://tiles/world")) == 85
    copy = tmp_path / "copy.mbtiles"
    assert main(["seed", "s3://tiles/world", str(copy), "-z", "0-3", "--quiet"]) == 0
    assert SECRET not in "".join(capsys.readouterr())


async def _count(location: str) -> int:
    archive = open_archive(location)
    try:
        return len([tile_id async for tile_id in archive.tile_ids()])
    finally:
        await archive.close()


@pytest.mark.usefixtures("environ")
def test_a_journal_that_was_lost_writes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conditional write finds the equal object there: it counts, and no second version is made."""
    with MockThread() as server:
        arguments = ["seed", server.template, "s3://tiles/again", "-z", "0-2", "--quiet"]
        assert main(arguments) == 0
        monkeypatch.setenv("TILEHAUL_STATE", str(tmp_path / "another"))
        assert main([*arguments, "--force-source"]) == 0
    assert asyncio.run(_count("s3://tiles/again")) == 21


@pytest.mark.usefixtures("environ")
def test_tiles_of_several_formats_change_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object a tile, whoever wrote it first, and each is found whatever its format."""
    ids = [TileId(5, x, 11) for x in range(12)]
    pngs = [Tile(i, b"\x89PNG\r\n\x1a\n" + str(i).encode(), "image/png", "store") for i in ids]
    jpegs = [Tile(i, b"\xff\xd8\xff" + str(i).encode(), "image/jpeg", "store") for i in ids]
    mixed = [*jpegs[:4], *pngs[4:]]
    asyncio.run(_write("s3://tiles/turns", pngs, [*jpegs[:4], NoTile(ids[4], "http_404")], [pngs[4]]))
    assert asyncio.run(_read("s3://tiles/turns", ids)) == mixed
    assert asyncio.run(_count("s3://tiles/turns")) == 12
    monkeypatch.setenv("TILEHAUL_STATE", str(tmp_path / "another"))
    asyncio.run(_write("s3://tiles/turns", [*pngs[:2], *jpegs[6:8]], replaces=True))
    assert asyncio.run(_read("s3://tiles/turns", ids)) == [*pngs[:2], *mixed[2:6], *jpegs[6:8], *mixed[8:]]
    assert asyncio.run(_count("s3://tiles/turns")) == 12


async def _write(location: str, *batches: Sequence[Outcome], replaces: bool = False) -> None:
    store = open_archive(location)
    assert isinstance(store, BucketStore)
    try:
        await store.begin(JobKey("source", "name", "area", 12, replaces=replaces), force_source=replaces)
        for batch in batches:
            await store.commit(batch)
    finally:
        await store.close()


async def _read(location: str, tile_ids: list[TileId]) -> list[Tile | NoTile]:
    archive = open_archive(location)
    try:
        return [await archive.get(tile_id) for tile_id in tile_ids]
    finally:
        await archive.close()


@pytest.mark.usefixtures("environ")
def test_a_layer_asks_only_for_what_has_changed(statuses: list[tuple[int, int]]) -> None:
    """A signed request with a condition; the lifetime is the one that the tiles were written with."""
    with MockThread() as server:
        assert main(["seed", server.template, "s3://tiles/fresh", "-z", "0-3", "--quiet"]) == 0
    here = TileId(3, 4, 2)

    async def asked_twice(**layer: object) -> list[Tile | NoTile]:
        told = {"layers": {"one": {"source": "s3://tiles/fresh", **layer}}}
        async with open_layers(parse_settings(told, {})) as opened:
            statuses.clear()
            return [await opened.layers[0].source.get(here) for _ in range(2)]

    first, again = asyncio.run(asked_twice())
    assert first.freshness is not None
    assert (first.freshness.fresh_s, again.place, len(statuses)) == (86400.0, "memory", 1)
    first, again = asyncio.run(asked_twice(max_age=0))
    assert isinstance(first, Tile)
    assert isinstance(again, Tile)
    assert (again.body, again.stale) == (first.body, "")
    assert statuses == [(200, len(first.body)), (304, 0)]


@pytest.mark.usefixtures("environ")
def test_old_tile_cache_reads_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both spellings of the location, many at once; with another key nothing comes, and the log says why."""
    asked = [("old", 3, x, y, "png") for x in range(8) for y in range(8)]
    with MockThread() as server:
        assert main(["seed", server.template, "s3://tiles/maps/old", "-z", "0-3", "--quiet"]) == 0
        true = {f"old/3/{x}/{y}.png": server.body_of(f"3/{x}/{y}") for _, _, x, y, _ in asked}
    for location in ("s3://tiles/maps", "r2://tiles/maps"):
        with R2TileCache(location=location) as tile_cache:
            found = tile_cache.fetch_tiles_parallel_sync([*asked, ("old", 9, 1, 1, "png")])
            assert found == {**true, "old/9/1/1.png": None}
            assert tile_cache.fetch_tile_sync(tile_cache.get_tile_url("old", 3, 1, 2, "png")) is not None
            assert tile_cache.get_cache_stats()["fetches_failed"] == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-wrong-98765")
    with R2TileCache(location="s3://tiles/maps") as tile_cache:
        assert tile_cache.fetch_tiles_parallel_sync(asked[:1]) == {"old/3/0/0.png": None}
        assert tile_cache.get_cache_stats()["errors"] == {"http_403": 1}


@pytest.mark.usefixtures("environ")
def test_a_wrong_secret_is_refused_with_exit_5(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-wrong-98765")
    with MockThread() as server:
        assert main(["seed", server.template, "s3://tiles/denied", "-z", "0-1", "--quiet"]) == 5
    said = capsys.readouterr().err
    assert "s3://tiles/denied" in said
    assert "canary" not in said
