"""A bucket as a store, where the contract suite does not look: conditions, digests, lost answers, R2's limit.

The wire is the lab's bucket without a socket, in virtual time; one test crosses a real socket.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from doubles.bucket import URL, BucketWire
from doubles.clock import VirtualClock, in_virtual_time
from doubles.wire import Unlaned
from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.bucket import BucketObject, BucketServer, LabBucket
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
from tilehaul.ports.store import DeadLetter, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request, Response, Sender, Signing
from tilehaul.stores.bucket import BucketStore
from tilehaul.stores.bucket_objects import KEYS_A_PAGE, BucketObjects

A, B, C = TileId(4, 8, 5), TileId(5, 17, 11), TileId(5, 17, 12)
JOB = JobKey("source", "name", "area", 2)


class PowerCutError(Exception):
    """Nothing after it happens."""


class FussyWire(BucketWire):
    """A wire that can be cut, that may not delete, and that lets something happen before a request."""

    cut_after: int | None = None
    forbidden = ""
    before: Callable[[Request], None] | None = None

    async def send(self, request: Request) -> Response:
        if self.cut_after is not None:
            if not self.cut_after:
                raise PowerCutError
            self.cut_after -= 1
        if self.before is not None:
            self.before(request)
        if request.method == self.forbidden:
            self.sent.append(request)
            return Response(request.url, 403, {}, b"")
        return await super().send(request)

    def asked(self) -> dict[str, int]:
        """Requests since the last call, by method; a listing is LIST."""
        names = ["LIST" if "list-type" in request.url else request.method for request in self.sent]
        self.sent.clear()
        return dict(Counter(names))


class Place:
    """One bucket, a clock, and stores on it."""

    def __init__(self, folder: Path, **bucket: Any) -> None:
        self.clock = VirtualClock()
        self.bucket = LabBucket(now_s=self.clock.now_s, **bucket)
        self.wire = FussyWire(self.bucket)
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

    def fill(self, tile_id: TileId, extension: str, body: bytes) -> None:
        """An object that nobody's journal knows."""
        self.bucket.objects[f"prefix/{tile_id}.{extension}"] = BucketObject(body, {}, '"other"')

    def kept(self, tile_id: TileId) -> dict[str, bytes]:
        """The objects of one tile by extension."""
        start = f"prefix/{tile_id}."
        return {
            key.removeprefix(start): kept.body
            for key, kept in self.bucket.objects.items()
            if key.startswith(start)
        }


def png(tile_id: TileId) -> Tile:
    return Tile(tile_id, plain_png(tile_id), "image/png")


def webp(tile_id: TileId) -> Tile:
    return Tile(tile_id, b"RIFF\x1a\0\0\0WEBPVP8L" + str(tile_id).encode(), "image/webp")


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


# Another format


async def test_a_power_cut_while_formats_change_leaves_what_the_journal_names(tmp_path: Path) -> None:
    """Before every request of such a commit: a tile is what the journal says, and `begin` leaves no other."""
    for cut_after in count():
        folder = tmp_path / str(cut_after)
        folder.mkdir()
        place = Place(folder)
        await place.run(_seed(place.store(), png(A), png(B), png(C)))
        store = place.store()
        await place.run(store.begin(JOB))
        place.wire.cut_after = cut_after
        try:
            await place.run(store.commit([webp(A), NoTile(B, "http_404"), webp(C)]))
        except* PowerCutError:
            pass
        whole = place.wire.cut_after > 0
        place.wire.cut_after = None
        changed = list(await place.run(store.settled([B]))) == ["absent"]
        await place.run(store.close())

        reader = place.store()
        expected = [webp(A), None, webp(C)] if changed else [png(A), png(B), png(C)]
        read = [await place.run(reader.get(tile_id)) for tile_id in (A, B, C)]
        assert [getattr(tile, "body", None) for tile in read] == [getattr(i, "body", None) for i in expected]
        listed = await place.run(_listed(reader))
        assert sorted(listed) == sorted(tile.tile_id for tile in expected if tile)
        await place.run(reader.close())

        again = place.store()
        await place.run(again.begin(JOB))
        names = [list(place.kept(tile_id)) for tile_id in (A, B, C)]
        assert names == ([["webp"], [], ["webp"]] if changed else [["png"]] * 3)
        await place.run(again.commit([webp(A), NoTile(B, "http_404"), webp(C)]))
        assert [list(place.kept(tile_id)) for tile_id in (A, B, C)] == [["webp"], [], ["webp"]]
        await place.run(again.close())
        if whole:
            break
    # Two are written, three deleted; the last round was not cut at all.
    assert cut_after == 6


async def _listed(store: BucketStore) -> list[TileId]:
    return [tile_id async for tile_id in store.tile_ids()]


async def test_a_refused_write_of_another_format_keeps_the_old_object(tmp_path: Path) -> None:
    """And what was written beside it goes when the store is next begun."""
    place = Place(tmp_path)
    await place.run(_seed(place.store(), png(A), png(B)))
    store = place.store()
    await place.run(store.begin(JOB))
    place.bucket.faults.append(403)
    with pytest.raises(StorageError, match="refused a tile"):
        await place.run(store.commit([webp(A), webp(B)]))
    assert [place.kept(i).get("png") for i in (A, B)] == [plain_png(A), plain_png(B)]
    assert [await place.run(store.get(i)) for i in (A, B)] == [
        replace(png(A), place="store"),
        replace(png(B), place="store"),
    ]
    await place.run(store.close())
    again = place.store()
    await place.run(again.begin(JOB))
    assert [list(place.kept(i)) for i in (A, B)] == [["png"], ["png"]]
    await place.run(again.close())


async def test_another_format_costs_a_delete_and_the_same_format_none(tmp_path: Path) -> None:
    """Everything is written before anything is deleted."""
    place = Place(tmp_path)
    await place.run(_seed(place.store(), png(A), png(B), png(C)))
    store = place.store()
    await place.run(store.begin(JOB))
    place.wire.sent.clear()
    await place.run(store.commit([webp(A), png(B), webp(C)]))
    assert [request.method for request in place.wire.sent] == ["PUT"] * 3 + ["DELETE"] * 2
    place.wire.sent.clear()
    await place.run(store.commit([webp(A), png(B)]))
    assert place.wire.asked() == {"PUT": 2}
    await place.run(store.close())


async def test_an_old_object_that_may_not_be_deleted_is_told_of_and_tried_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.run(_seed(place.store(), png(A)))
    store = place.store()
    await place.run(store.begin(JOB))
    place.wire.forbidden = "DELETE"
    with pytest.raises(StorageError, match="allow it"):
        await place.run(store.commit([webp(A)]))
    assert list(await place.run(store.settled([A]))) == ["done"]
    assert await place.run(store.get(A)) == replace(webp(A), place="store")
    await place.run(store.close())
    with pytest.raises(StorageError, match="allow it"):
        await place.run(_seed(place.store(), png(B)))
    place.wire.forbidden = ""
    again = place.store()
    await place.run(again.begin(JOB))
    assert list(place.kept(A)) == ["webp"]
    place.wire.sent.clear()
    await place.run(again.close())
    assert place.wire.asked() == {}


# Several formats in one bucket


async def test_a_format_that_no_first_key_has_is_found(tmp_path: Path) -> None:
    """A thousand keys of one format first: a plain hit stays one request, a miss costs one more."""
    place = Place(tmp_path)
    for number in range(KEYS_A_PAGE):
        place.fill(TileId(6, number % 64, number // 64), "png", plain_png(A))
    jpegs = [TileId(7, x, 9) for x in range(3)]
    for tile_id in jpegs:
        place.fill(tile_id, "jpg", b"\xff\xd8\xff" + str(tile_id).encode())
    store = place.store()
    assert (await place.run(store.source_info())).media_type == "image/png"
    place.wire.sent.clear()
    assert isinstance(await place.run(store.get(TileId(6, 1, 1))), Tile)
    assert place.wire.asked() == {"GET": 1}
    answers = []
    for tile_id in jpegs:
        answers.append((await place.run(store.get(tile_id)), place.wire.asked()))
    assert [answer.media_type for answer, _ in answers] == ["image/jpeg"] * 3
    assert [asked for _, asked in answers] == [{"GET": 2, "LIST": 1}, {"GET": 1}, {"GET": 1}]
    assert isinstance(await place.run(store.get(TileId(7, 99, 9))), NoTile)
    assert place.wire.asked() == {"GET": 1, "LIST": 1}
    await place.run(store.close())
    other = place.store()
    assert await place.run(other.states([jpegs[0], TileId(6, 1, 1), TileId(7, 99, 9)])) == [
        "done",
        "done",
        None,
    ]
    await place.run(other.close())


async def test_tiles_that_were_listed_are_read_with_one_request_each(tmp_path: Path) -> None:
    """Formats that alternate: the listing has named them."""
    place = Place(tmp_path)
    tiles = [TileId(4, 3, row) for row in range(8)]
    for tile_id in tiles:
        place.fill(tile_id, "png" if tile_id.y % 2 else "webp", webp(tile_id).body)
    store = place.store()
    assert await place.run(_listed(store)) == tiles
    assert place.wire.asked() == {"LIST": 1}
    for tile_id in tiles:
        assert isinstance(await place.run(store.get(tile_id)), Tile)
    assert place.wire.asked() == {"GET": 8}
    await place.run(store.close())


async def test_a_tile_with_two_objects_is_listed_once_and_an_empty_one_is_none(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.fill(A, "jpg", b"\xff\xd8\xff")
    place.fill(A, "png", plain_png(A))
    place.fill(B, "png", b"")
    place.fill(B, "webp", webp(B).body)
    store = place.store()
    assert await place.run(_listed(store)) == [A, B]
    info = await place.run(store.describe())
    assert (info.tiles, info.tiles_by_zoom) == (2, {4: 1, 5: 1})
    assert await place.run(store.get(B)) == replace(webp(B), place="store")
    await place.run(store.close())


async def test_a_tile_whose_format_changes_while_it_is_read_is_found(tmp_path: Path) -> None:
    """Listed as png; before the read somebody writes webp and deletes the png."""
    place = Place(tmp_path)
    place.fill(A, "png", plain_png(A))
    store = place.store()

    def change(request: Request) -> None:
        if request.url.endswith(".png"):
            place.bucket.objects.clear()
            place.fill(A, "webp", webp(A).body)

    place.wire.before = change
    assert await place.run(store.get(A)) == replace(webp(A), place="store")
    assert place.wire.asked() == {"LIST": 2, "GET": 2}
    await place.run(store.close())


async def test_what_was_left_over_when_the_reader_was_opened_may_be_a_tile_by_now(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.run(_seed(place.store(), png(A)))
    writer, reader = place.store(), place.store()
    await place.run(writer.begin(JOB))
    place.wire.forbidden = "DELETE"
    with pytest.raises(StorageError):
        await place.run(writer.commit([webp(A)]))
    assert await place.run(reader.get(A)) == replace(webp(A), place="store")
    place.wire.forbidden = ""
    await place.run(writer.commit([png(A)]))
    assert list(place.kept(A)) == ["png"]
    assert await place.run(reader.get(A)) == replace(png(A), place="store")
    await place.run(reader.close())
    await place.run(writer.close())


# Tiles of others


async def test_a_job_that_replaces_replaces_what_others_wrote(tmp_path: Path) -> None:
    """Forced upon a bucket without a journal: each is listed and written, another format deleted."""
    place = Place(tmp_path)
    place.fill(A, "png", b"old")
    place.fill(B, "jpg", b"old")
    store = place.store()
    await place.run(store.begin(replace(JOB, replaces=True), force_source=True))
    place.wire.sent.clear()
    await place.run(store.commit([png(A), png(B), png(C)]))
    assert place.wire.asked() == {"LIST": 3, "PUT": 3, "DELETE": 1}
    assert [place.kept(i) for i in (A, B, C)] == [{"png": plain_png(i)} for i in (A, B, C)]
    await place.run(store.commit([png(A)]))
    assert place.wire.asked() == {"PUT": 1}, "the journal knows it by now"
    await place.run(store.close())


async def test_a_forced_job_keeps_what_others_wrote_whatever_its_format(tmp_path: Path) -> None:
    """Also once it goes on without being forced: it is its own by then."""
    place = Place(tmp_path)
    place.fill(A, "jpg", b"old")
    place.fill(B, "png", b"old")
    for forced in (True, False):
        store = place.store()
        await place.run(store.begin(JOB, force_source=forced))
        place.wire.sent.clear()
        await place.run(store.commit([png(A if forced else B)]))
        assert place.wire.asked() == {"LIST": 1}
        await place.run(store.close())
    assert (place.kept(A), place.kept(B)) == ({"jpg": b"old"}, {"png": b"old"})


async def test_what_was_to_be_replaced_and_died_is_replaced_by_its_retry(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.fill(A, "jpg", b"old")
    first = place.store()
    await place.run(first.begin(replace(JOB, replaces=True), force_source=True))
    await place.run(first.commit([DeadLetter(A, "http_500", 6)]))
    await place.run(first.close())
    assert place.kept(A) == {"jpg": b"old"}
    retry = place.store()
    await place.run(retry.begin(replace(JOB, replay=True)))
    await place.run(retry.commit([png(A)]))
    await place.run(retry.close())
    assert place.kept(A) == {"png": plain_png(A)}
