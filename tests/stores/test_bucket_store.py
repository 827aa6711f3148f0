"""A bucket as a store, where the contract suite does not look: conditions, digests, lost answers, R2's limit.

The wire is the lab's bucket without a socket, in virtual time; one test crosses a real socket.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from doubles.bucket import URL, BucketWire
from doubles.clock import VirtualClock, in_virtual_time
from doubles.wire import Unlaned
from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.bucket import BucketServer, LabBucket
from tilehaul.lab.plain_png import plain_png
from tilehaul.net.addresses import AddressGuard
from tilehaul.net.retried import RetriedSender
from tilehaul.net.spaced import SpacedSender
from tilehaul.net.verified import VerifiedSender
from tilehaul.net.wire import Wire
from tilehaul.policy.answers import AnswerRule
from tilehaul.policy.key_spacing import KeySpacing
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.ports.wire import Request, Response, Sender, Signing
from tilehaul.stores.bucket import BucketStore
from tilehaul.stores.bucket_objects import BucketObjects

A, B = TileId(4, 8, 5), TileId(5, 17, 11)
JOB = JobKey("source", "name", "area", 2)


class Place:
    """One bucket, a clock, and stores on it."""

    def __init__(self, folder: Path, **bucket: Any) -> None:
        self.clock = VirtualClock()
        self.bucket = LabBucket(now_s=self.clock.now_s, **bucket)
        self.wire = BucketWire(self.bucket)
        self.journal = folder / "bucket.journal"

    def store(self, *, spacing_s: float = 1.0, wait_s_max: float = 60.0, **settings: Any) -> BucketStore:
        @asynccontextmanager
        async def open_sender() -> AsyncIterator[Sender]:
            tally = Tally()
            verified = VerifiedSender(self.wire, self.clock, tally, AnswerRule(frozenset({503})))
            spaced = SpacedSender(verified, self.clock, KeySpacing(spacing_s))
            yield RetriedSender(
                Unlaned(spaced), RetryRule(wait_s_max=wait_s_max), self.clock, lambda: 0.1, tally
            )

        return BucketStore(
            URL,
            shown="s3://tiles/prefix",
            open_sender=open_sender,
            journal=self.journal,
            durability="fast",
            **settings,
        )

    async def run(self, coroutine: Any) -> Any:
        return await in_virtual_time(self.clock, coroutine)

    def writes(self, tile_id: TileId) -> list[float]:
        return self.bucket.counts.writes_s.get(f"prefix/{tile_id}.png", [])


def png(tile_id: TileId) -> Tile:
    return Tile(tile_id, plain_png(tile_id), "image/png")


async def _seed(store: BucketStore, *tiles: Tile, force_source: bool = False) -> None:
    await store.begin(JOB, force_source=force_source)
    await store.commit(tiles)
    await store.finish(complete=True)
    await store.close()


async def test_47_r2_same_key_429(tmp_path: Path) -> None:
    """R2 takes one write a second for a key: repeats keep that distance, and not one is refused for it."""
    place = Place(tmp_path, spacing_s=1.0)
    place.bucket.faults.extend([503, 500, 503])
    await place.run(_seed(place.store(), png(A)))
    writes_s = place.writes(A)
    assert len(writes_s) == 4
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(writes_s))
    assert place.bucket.counts.too_soon == 0
    assert place.bucket.objects[f"prefix/{A}.png"].body == plain_png(A)


async def test_47_without_the_spacing_r2_refuses(tmp_path: Path) -> None:
    """The rule is what keeps the bucket from answering 429, not the waits between attempts."""
    place = Place(tmp_path, spacing_s=1.0)
    place.bucket.faults.extend([500])
    with pytest.raises(StorageError, match="429"):
        await place.run(_seed(place.store(spacing_s=0.0, wait_s_max=0.0), png(A)))
    assert place.bucket.counts.too_soon == 1


async def test_45_put_lost_answer(tmp_path: Path) -> None:
    """Stored, and the answer lost: the repeat finds it there, equal, and writes nothing again."""
    place = Place(tmp_path)
    place.bucket.lost.append(500)
    await place.run(_seed(place.store(), png(A), png(B)))
    puts = [request for request in place.wire.sent if request.method == "PUT" and ".png" in request.url]
    heads = [request for request in place.wire.sent if request.method == "HEAD"]
    assert (len(puts), len(heads)) == (3, 1)
    assert len(place.bucket.objects) == 3  # two tiles and metadata.json


async def test_an_object_that_is_there_already_is_replaced_by_its_own_job(tmp_path: Path) -> None:
    """A crash between object and journal, and the origin has a newer tile since: the newer one stays."""
    place = Place(tmp_path)
    first = place.store()
    await place.run(first.begin(JOB))
    other = Tile(A, plain_png(B), "image/png")
    await place.run(first.commit([other]))
    await place.run(first.close())
    place.journal.unlink()
    await place.run(_seed(place.store(), png(A), force_source=True))
    assert place.bucket.objects[f"prefix/{A}.png"].body == other.body, "forced: what is there is kept"


async def test_a_server_without_conditional_writes_is_asked_once(tmp_path: Path) -> None:
    """501 to If-None-Match, six attempts of it: from then on no write is conditional."""
    place = Place(tmp_path, conditional=False)
    store = place.store()
    await place.run(store.begin(JOB))
    await place.run(store.commit([png(A)]))
    await place.run(store.commit([png(B)]))
    await place.run(store.close())
    assert place.bucket.counts.by_method["PUT"] == 6 + 2
    assert {f"prefix/{A}.png", f"prefix/{B}.png"} <= set(place.bucket.objects)


async def test_what_a_tile_is_stored_with(tmp_path: Path) -> None:
    """Type, lifetime, and for zipped vector tiles the coding; metadata for whoever opens the bucket."""
    place = Place(tmp_path)
    zipped = Tile(B, b"\x1f\x8b\x08" + bytes(20), "application/vnd.mapbox-vector-tile")
    await place.run(_seed(place.store(cache_control="max-age=60"), png(A), zipped))
    objects = place.bucket.objects
    assert objects[f"prefix/{A}.png"].headers == {"content-type": "image/png", "cache-control": "max-age=60"}
    assert objects[f"prefix/{B}.pbf"].headers["content-encoding"] == "gzip"
    told = json.loads(objects["prefix/metadata.json"].body)
    assert (told["minzoom"], told["maxzoom"]) == ("4", "5")
    assert not [name for name in told if name.startswith("tilehaul_")]


async def test_a_refused_write_acknowledges_nothing(tmp_path: Path) -> None:
    """403 for one of two: StorageError, the journal knows neither, the next run sends both."""
    place = Place(tmp_path)
    place.bucket.faults.append(403)
    store = place.store()
    await place.run(store.begin(JOB))
    with pytest.raises(StorageError, match="s3://tiles/prefix"):
        await place.run(store.commit([png(A), png(B)]))
    assert list(await place.run(store.settled([A, B]))) == [None, None]
    await place.run(store.close())
    await place.run(_seed(place.store(), png(A), png(B)))
    assert {f"prefix/{A}.png", f"prefix/{B}.png"} <= set(place.bucket.objects)


async def test_listing_goes_on_over_pages_and_passes_over_what_is_no_tile(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.bucket.keys_a_page = 3
    tiles = [png(TileId(4, 3, row)) for row in range(8)]
    await place.run(_seed(place.store(), *tiles))
    kept = next(iter(place.bucket.objects.values()))
    for name in ("notes.txt", "4/03/1.png", "4/3/x.png", "4/99/1.png", "4/3/7.png/1.png"):
        place.bucket.objects[f"prefix/{name}"] = kept
    store = place.store()

    async def walk() -> list[TileId]:
        return [tile_id async for tile_id in store.tile_ids()]

    assert await place.run(walk()) == [tile.tile_id for tile in tiles]
    await place.run(store.close())


async def test_two_writers_of_one_bucket_and_journal(tmp_path: Path) -> None:
    place = Place(tmp_path)
    first, second = place.store(), place.store()
    await place.run(first.begin(JOB))
    with pytest.raises(PlanError, match="another tilehaul"):
        await place.run(second.begin(JOB))
    await place.run(second.close())
    await place.run(first.close())


async def test_over_a_real_socket(tmp_path: Path) -> None:
    """The wire's PUT, HEAD, DELETE and GET as a server hears them; a body that is rewound is sent whole."""
    bucket = LabBucket()
    async with BucketServer(bucket) as server:
        signing = Signing("us-east-1", "key", "secret")
        guard = AddressGuard(frozenset({server.url.removeprefix("http://")}))
        clock, tally = VirtualClock(), Tally()

        @asynccontextmanager
        async def open_sender() -> AsyncIterator[Sender]:
            async with Wire("test", guard=guard, signing=signing) as wire:
                yield VerifiedSender(wire, clock, tally)

        store = BucketStore(
            f"{server.url}/tiles/p/", shown="s3://tiles/p", open_sender=open_sender, journal=tmp_path / "j"
        )
        await store.begin(JOB)
        await store.commit([png(A), png(B)])
        await store.commit([Tile(A, b"\xff\xd8\xff" + bytes(2_000_000), "image/jpeg")])
        await store.finish(complete=True)
        answer = await store.get(A)
        assert isinstance(answer, Tile)
        assert (len(answer.body), answer.media_type) == (2_000_003, "image/jpeg")
        await store.close()
    assert sorted(bucket.objects) == [f"p/{A}.jpg", f"p/{B}.png", "p/metadata.json"]
    assert bucket.counts.by_method["DELETE"] == 1


@pytest.mark.parametrize(("declared", "size"), [("12", 12), ("", 0), ("\xb2", 0), ("1" * 5000, 0), ("-1", 0)])
async def test_size_that_makes_no_sense_counts_as_none(declared: str, size: int) -> None:
    class Head:
        async def send(self, request: Request) -> Response:
            assert request.method == "HEAD"
            return Response(request.url, 200, {"content-length": declared}, b"")

    assert await BucketObjects("http://h/tiles/p/", Head()).size("key") == size
