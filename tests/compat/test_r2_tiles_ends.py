"""The old tile cache: where its tiles are, whom it signs for, and how it ends."""

import asyncio
import gc
import subprocess
import sys
import threading

import pytest

import tilehaul
from tilehaul.compat.r2_tiles import R2TileCache
from tilehaul.lab.bucket import BucketObject, BucketServer, LabBucket
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.plain_png import plain_png

ACCOUNT = "0123456789abcdef0123456789abcdef"
BODY = plain_png(tilehaul.TileId(3, 4, 2))


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path):
    for name in ("R2_PUBLIC_URL", "R2_ACCOUNT_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    assert "tilehaul-loop" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def server():
    with MockThread() as mock:
        yield mock


def cache_at(server: MockThread, **settings) -> R2TileCache:
    return R2TileCache(location=f"{server.base_url}/{{z}}/{{x}}/{{y}}.{{fmt}}", **settings)


# Where the tiles are


def test_address_is_below_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2_PUBLIC_URL", "https://pub.example.com/")
    assert R2TileCache().get_tile_url(1, 3, 4, 2) == "https://pub.example.com/tiles/1/3/4/2.jpg"
    here = R2TileCache(location="https://other.example.com/maps/")
    assert here.get_tile_url("mars", 3, 4, 2, "webp") == "https://other.example.com/maps/mars/3/4/2.webp"
    monkeypatch.setenv("R2_ACCOUNT_ID", ACCOUNT)
    bucket = R2TileCache(location="r2://photos/tiles")
    url = f"https://{ACCOUNT}.r2.cloudflarestorage.com/photos/tiles/1/3/4/2.jpg"
    assert bucket.get_tile_url(1, 3, 4, 2) == url


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("r2://photos/tiles", "R2_ACCOUNT_ID"),
        ("r2://x", "no name of a bucket"),
        ("ftp://example.com/tiles", "is wanted"),
        ("/srv/tiles", "is wanted"),
        ("https://example.com/{z}/{x}.png", r"\{y\}"),
        ("https://example.com/{z}/{x}/{y}/{layer}.png", "is wanted|are wanted"),
        ("https://example.com/tiles?key=1", "are wanted"),
        ("https:///{z}/{x}/{y}.png", "http"),
    ],
)
def test_place_that_is_none_says_what_is_wanted(location: str, says: str) -> None:
    with pytest.raises((tilehaul.ConfigError, tilehaul.PlanError), match=says):
        R2TileCache(location=location)


@pytest.mark.parametrize(
    "settings", [{"max_cache_size": -1}, {"thread_workers": 0}, {"thread_workers": 1001}]
)
def test_number_out_of_range_is_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        R2TileCache(**settings)


def test_without_a_place_addresses_can_be_fetched_and_tiles_not(server: MockThread) -> None:
    with R2TileCache() as tile_cache:
        assert not tile_cache.enabled
        assert tile_cache.get_tile_url(1, 0, 0, 0) is None
        assert tile_cache.fetch_tile_sync(f"{server.base_url}/3/4/2.png") == server.body_of("3/4/2")
        for call in (
            lambda: tile_cache.fetch_tiles_parallel_sync([(1, 0, 0, 0, "jpg")]),
            lambda: tile_cache.queue_prefetch(1, 0, 0, 0),
        ):
            with pytest.raises(tilehaul.ConfigError, match="R2_PUBLIC_URL"):
                call()
        for wrong in ({"timeout": 0}, {"timeout": -1}, {"retry": -1}):
            with pytest.raises(ValueError, match=r"timeout|retries"):
                tile_cache.fetch_tile_sync(server.base_url, **wrong)
    assert server.stats().requests == 1


def test_host_that_asks_for_a_contact_gets_one_or_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    osm = "https://tile.openstreetmap.org/{z}/{x}/{y}.png"
    with (
        R2TileCache(location=osm, contact="") as tile_cache,
        pytest.raises(tilehaul.PlanError, match="contact"),
    ):
        tile_cache.fetch_tiles_parallel_sync([(1, 0, 0, 0, "png")])
    with R2TileCache(contact="") as tile_cache:
        assert tile_cache.fetch_tile_sync(osm.format(z=0, x=0, y=0)) is None
    assert "contact" in caplog.text


async def test_only_what_lies_in_the_bucket_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever names an address could read the rest of the account with our keys."""
    bucket = LabBucket()
    for name in ("tiles/1/3/4/2.png", "secret/1.png"):
        bucket.objects[name] = BucketObject(BODY, {"content-type": "image/png"}, '"1"')
    signed: dict[str, bool] = {}
    inner = bucket.app

    async def noting(scope, receive, send) -> None:
        signed[scope["path"]] = b"authorization" in dict(scope["headers"])
        await inner(scope, receive, send)

    bucket.app = noting  # type: ignore[assignment]
    async with BucketServer(bucket) as place:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", place.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
        tile_cache = R2TileCache(location="r2://photos/tiles", contact="maps@example.com")
        with pytest.warns(DeprecationWarning, match="fetch_tiles_parallel_sync"):
            found = await tile_cache.fetch_tiles_parallel([(1, 3, 4, 2, "png"), (1, 3, 4, 3, "png")])
        assert found == {"1/3/4/2.png": BODY, "1/3/4/3.png": None}
        for url in (
            tile_cache.get_tile_url(1, 3, 4, 2, "png"),
            f"{place.url}/photos/secret/1.png",
            f"{place.url}/photos/tiles/%2e%2e/secret/1.png",
        ):
            assert await asyncio.to_thread(tile_cache.fetch_tile_sync, url) == BODY
        await asyncio.to_thread(tile_cache.close)
    assert signed.pop("/photos/secret/1.png") is False
    signed.pop("/photos/tiles/../secret/1.png", None)
    assert signed == {"/photos/tiles/1/3/4/2.png": True, "/photos/tiles/1/3/4/3.png": True}


# How it ends


def test_no_thread_before_the_first_fetch_nor_after_the_end(server: MockThread) -> None:
    def ours() -> int:
        return sum(thread.name == "tilehaul-loop" for thread in threading.enumerate())

    tile_cache = cache_at(server)
    tile_cache.cache_tile(1, 0, 0, 0, b"kept", "png")
    assert tile_cache.fetch_tiles_parallel_sync([(1, 0, 0, 0, "png")]) == {"1/0/0/0.png": b"kept"}
    assert ours() == 0
    tile_cache.fetch_tiles_parallel_sync([(1, 6, x, 0, "png") for x in range(60)])
    assert ours() == 1
    tile_cache.close()
    tile_cache.close()
    assert ours() == 0
    assert tile_cache.get_cached_tile(1, 0, 0, 0, "png") == b"kept"
    for call in (
        lambda: tile_cache.fetch_tile_sync(f"{server.base_url}/0/0/0.png"),
        lambda: tile_cache.fetch_tiles_parallel_sync([(1, 1, 1, 1, "png")]),
        lambda: tile_cache.queue_prefetch(1, 1, 1, 1),
    ):
        with pytest.raises(tilehaul.PlanError, match="closed"):
            call()


def test_thread_ends_with_the_object(server: MockThread) -> None:
    tile_cache = cache_at(server)
    assert tile_cache.fetch_tile_sync(f"{server.base_url}/3/4/2.png") == server.body_of("3/4/2")
    [ours] = [thread for thread in threading.enumerate() if thread.name == "tilehaul-loop"]
    del tile_cache
    gc.collect()
    ours.join(10)
    assert not ours.is_alive()


@pytest.mark.filterwarnings("ignore:fetch_tiles_parallel is deprecated")
async def test_cancelling_the_asynchronous_form_ends_its_requests(server: MockThread) -> None:
    server.set_faults(Faults(shares={"black_hole": 1.0}))
    with cache_at(server) as tile_cache:
        asking = asyncio.create_task(tile_cache.fetch_tiles_parallel([(1, 6, x, 0, "png") for x in range(4)]))
        while server.stats().in_flight < 4:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while server.stats().connections_open:
            await asyncio.sleep(0.001)
        assert tile_cache.get_cache_stats()["current_concurrent_fetches"] == 0


PROGRAM = """
import sys, threading
from tilehaul.compat.r2_tiles import R2TileCache
cache = R2TileCache(location=sys.argv[1])
"""
HUNG = """
cache.queue_prefetch(1, 6, 1, 1)
threading.Thread(target=cache.fetch_tile_sync, args=(cache.get_tile_url(1, 3, 4, 2), 600)).start()
while cache.get_cache_stats()["current_concurrent_fetches"] < 2: pass
"""
FORKED = """
import os
tile = [(1, 3, 4, 2, "png")]
assert cache.fetch_tiles_parallel_sync(tile)["1/3/4/2.png"]
child = os.fork()
if child == 0:
    kept = cache.fetch_tiles_parallel_sync(tile)
    new = cache.fetch_tiles_parallel_sync([(1, 3, 4, 3, "png")])
    os._exit(0 if all(kept.values()) and all(new.values()) else 1)
assert os.waitpid(child, 0)[1] == 0
assert all(cache.fetch_tiles_parallel_sync([(1, 3, 4, 4, "png")]).values())
"""


def test_program_ends_while_fetches_hang() -> None:
    with MockThread(MockSettings(faults=Faults(shares={"black_hole": 1.0}))) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM + HUNG, server.template],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    # The waiting thread was told, by the error that its traceback shows; nothing else is said.
    assert "the program is ending" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_child_of_fork_has_the_tiles_and_an_engine_of_its_own(server: MockThread) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + FORKED, server.template], timeout=30, check=True
    )
    assert server.stats().requests == 3
