"""What every `TileArchive` promises, and `StoredSource` over it."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from tilehaul.errors import DataError, PlanError, RefusedError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.source import WORLD_DEG, TileSource
from tilehaul.ports.store import TileArchive
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.stored import BYTES_MAX_IN_LOOP, StoredSource
from tilehaul.stores import journal, threaded

A, B = TileId(4, 8, 5), TileId(5, 17, 11)
BOUNDS = (("bounds", "5,40,15,50"), ("minzoom", "3"), ("maxzoom", "5"))


async def filled(backend: Any, make: Any, outcomes: Any, **job: Any) -> Any:
    store = backend.open()
    await store.begin(make.job(**job))
    await store.commit(outcomes)
    await store.finish(complete=True)
    await store.close()
    return backend.open()


async def test_get_answers_the_bytes_by_their_magic(backend: Any, make: Any) -> None:
    """Mixed formats in one archive come out as what they are; rows are north first outside."""
    archive: TileArchive = await filled(backend, make, [make.png(A), make.jpeg(B)])
    assert await archive.get(A) == Tile(A, make.png(A).body, "image/png", "store")
    assert await archive.get(B) == Tile(B, make.jpeg(B).body, "image/jpeg", "store")
    await archive.close()


@pytest.mark.parametrize(
    "tile_id", [TileId(4, 8, 6), TileId(4, 99, 5), TileId(31, 1, 1), TileId(-1, 0, 0), TileId(4, -8, -5)]
)
async def test_get_of_what_is_not_there_is_no_tile(backend: Any, make: Any, tile_id: Any) -> None:
    """Also for addresses outside the world: absence, not an error."""
    archive = await filled(backend, make, [make.png(A)])
    assert await archive.get(tile_id) == NoTile(tile_id, "not_stored", "store")
    await archive.close()


async def test_walk_gives_every_id_once(backend: Any, make: Any, monkeypatch: Any) -> None:
    """Over many pages, while the archive is being read."""
    monkeypatch.setattr(threaded, "WALK_ITEMS", 50)
    monkeypatch.setattr(journal, "PAGE_ROWS", 40)
    ids = {TileId(z, x, y) for z in (6, 7) for x in range(10) for y in range(15)}
    archive = await filled(backend, make, [make.png(tile_id) for tile_id in ids])
    seen = []
    async for tile_id in archive.tile_ids():
        seen.append(tile_id)
        if len(seen) == 100:
            assert isinstance(await archive.get(tile_id), Tile)
    assert len(seen) == len(ids)
    assert set(seen) == ids
    assert [tile_id.z for tile_id in seen] == sorted(tile_id.z for tile_id in seen)
    await archive.close()


async def test_describe_counts_by_zoom(backend: Any, make: Any) -> None:
    """Counts, size and state, and what the archive says of itself."""
    archive = await filled(
        backend, make, [make.png(A), make.png(B), make.png(TileId(5, 17, 12))], metadata=(("name", "Alps"),)
    )
    info = await archive.describe()
    assert (info.tiles, info.tiles_by_zoom) == (3, {4: 1, 5: 2})
    assert (info.absent, info.dead, info.state) == (0, 0, "complete")
    assert info.kind == backend.kind.removesuffix("-dedup").removesuffix("-tms")
    assert info.bytes >= sum(len(make.png(tile_id).body) for tile_id in (A, B, B))
    assert info.metadata["name"] == "Alps"
    assert info.metadata["format"] == "png"
    await archive.close()


async def test_source_info_comes_from_metadata(backend: Any, make: Any) -> None:
    """Name, zooms, bounds, attribution as given by the job."""
    metadata = (*BOUNDS, ("name", "Alps"), ("attribution", "(c) us"), ("format", "jpg"), ("description", "d"))
    archive = await filled(backend, make, [make.jpeg(A)], metadata=metadata)
    info = await archive.source_info()
    assert (info.name, info.attribution, info.description) == ("Alps", "(c) us", "d")
    assert (info.media_type, info.zoom_min, info.zoom_max) == ("image/jpeg", 3, 5)
    assert info.bounds_deg == (5.0, 40.0, 15.0, 50.0)
    assert info.identity
    await archive.close()


async def test_source_info_comes_from_the_tiles_when_nobody_said(backend: Any, make: Any) -> None:
    """Zooms, media type and the box of the deepest zoom."""
    archive = await filled(
        backend, make, [make.jpeg(A), make.jpeg(TileId(2, 3, 0)), make.jpeg(TileId(2, 3, 1))]
    )
    await archive.close()
    only = await filled(backend, make, [make.jpeg(TileId(2, 3, 1))], area="other")
    info = await only.source_info()
    assert (info.media_type, info.zoom_min, info.zoom_max) == ("image/jpeg", 2, 4)
    # Tile 4/8/5: 0 to 22.5 degrees east, and the second of the northern rows of zoom 4.
    assert info.bounds_deg == pytest.approx((0.0, 40.9798981, 22.5, 55.7765730), abs=1e-6)
    await only.close()


async def test_second_job_widens_what_the_archive_says(backend: Any, make: Any) -> None:
    """Bounds and zooms grow, both attributions are told, the name stays."""
    first = (*BOUNDS, ("name", "Alps"), ("attribution", "(c) us"))
    archive = await filled(backend, make, [make.png(A)], metadata=first)
    await archive.close()
    second = (
        ("bounds", "-5,45,10,55"), ("minzoom", "4"), ("maxzoom", "9"), ("name", "B"),
        ("attribution", "(c) them"),
    )  # fmt: skip
    again = await filled(backend, make, [make.png(B)], area="two", metadata=second)
    info = await again.source_info()
    assert info.bounds_deg == (-5.0, 40.0, 15.0, 55.0)
    assert (info.zoom_min, info.zoom_max, info.name) == (3, 9, "Alps")
    assert info.attribution == "(c) us; (c) them"
    await again.close()


async def test_many_readers_at_once_each_get_their_own(backend: Any, make: Any) -> None:
    """A hundred concurrent reads during a commit do not mix answers."""
    ids = [TileId(9, x, 3) for x in range(100)]
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(tile_id) for tile_id in ids])
    more = [make.png(TileId(9, x, 4)) for x in range(100)]
    answers, _ = await asyncio.gather(
        asyncio.gather(*(store.get(tile_id) for tile_id in ids)), store.commit(more)
    )
    assert [answer.body for answer in answers] == [make.png(tile_id).body for tile_id in ids]
    await store.close()


async def test_store_that_does_not_exist_is_told_of(backend: Any, make: Any) -> None:
    """A wrong path is a PlanError that names it; an empty memory store or bucket is just empty."""
    if backend.kind in ("memory", "bucket"):
        assert await backend.open().get(A) == NoTile(A, "not_stored", "store")
        return
    archive = backend.open()
    for call in (lambda: archive.get(A), archive.describe, archive.source_info):
        with pytest.raises(PlanError, match="store"):
            await call()
    await archive.close()
    assert not list(backend.folder.iterdir())


async def test_stored_source_is_a_source(backend: Any, make: Any) -> None:
    """`info` is known after `open`; place and cause say where the answer comes from."""
    whole = plain_png(A)
    archive = await filled(backend, make, [Tile(A, whole, "image/png")], metadata=(("name", "Alps"),))
    source: TileSource = await StoredSource.open(archive)
    assert (source.info.name, source.info.media_type) == ("Alps", "image/png")
    assert await source.get(A) == Tile(A, whole, "image/png", "store")
    assert await source.get(B) == NoTile(B, "not_stored", "store")
    await archive.close()


BROKEN = {
    "truncated": plain_png(A)[:-4],
    "error_page": b"<html><script>alert(1)</script></html>",
    "mistyped": b"\x00\x01 who knows",
}


@pytest.mark.parametrize("cause", BROKEN)
async def test_stored_source_verifies_every_body(backend: Any, make: Any, cause: Any) -> None:
    """Half a picture or a page in an archive is told of, with the place; it is neither a tile nor absent."""
    archive = await filled(backend, make, [Tile(A, BROKEN[cause], "image/png")], metadata=(("name", "Alps"),))
    source = await StoredSource.open(archive, location="/maps/alps")
    with pytest.raises(DataError, match=r"^/maps/alps#4/8/5: ") as caught:
        await source.get(A)
    assert (caught.value.cause, caught.value.url) == (cause, "/maps/alps#4/8/5")
    assert caught.value.head == BROKEN[cause][:200]
    assert (await StoredSource.open(archive)).location == "Alps"
    await archive.close()


async def test_stored_source_answers_what_the_bytes_are(backend: Any, make: Any) -> None:
    """Not what the store, its `format` or a file's name says; large bodies as well, off the loop."""
    large = plain_png(A) + bytes(BYTES_MAX_IN_LOOP)
    tiles = [Tile(A, plain_png(A), "image/jpeg"), Tile(B, large, "image/webp")]
    archive = await filled(backend, make, tiles, metadata=(("format", "webp"),))
    source = await StoredSource.open(archive)
    for tile in tiles:
        assert await source.get(tile.tile_id) == Tile(tile.tile_id, tile.body, "image/png", "store")
    await archive.close()


async def test_stored_source_refuses_a_bomb(vector_backend: Any, make: Any) -> None:
    """A zipped vector tile that unpacks without end: refused, with the place."""
    bomb = gzip.compress(bytes(8 * 1024 * 1024))
    archive = await filled(vector_backend, make, [Tile(A, bomb, "application/vnd.mapbox-vector-tile")])
    source = await StoredSource.open(archive, location="/maps/alps")
    with pytest.raises(RefusedError) as caught:
        await source.get(A)
    assert (caught.value.cause, caught.value.url) == ("too_large", "/maps/alps#4/8/5")
    await archive.close()


LAYERS = '[{"id": "roads", "fields": {"kind": "String"}}]'


async def test_vector_layers_are_read_and_joined(vector_backend: Any, make: Any) -> None:
    """What the `json` row names comes out; a second job's own layers are added, none is lost."""
    tile = Tile(A, gzip.compress(b""), "application/vnd.mapbox-vector-tile")
    row = f'{{"vector_layers": {LAYERS}, "tilestats": 1}}'
    archive = await filled(vector_backend, make, [tile], metadata=(("format", "pbf"), ("json", row)))
    assert json.loads((await archive.source_info()).vector_layers) == json.loads(LAYERS)
    await archive.close()
    other = '{"vector_layers": [{"id": "roads"}, {"id": "water"}]}'
    again = await filled(
        vector_backend, make, [tile], area="two", metadata=(("format", "pbf"), ("json", other))
    )
    layers = json.loads((await again.source_info()).vector_layers)
    assert layers == [*json.loads(LAYERS), {"id": "water", "fields": {}}]
    assert json.loads((await again.describe()).metadata["json"])["tilestats"] == 1
    await again.close()


async def test_vector_layers_replace_the_empty_list_of_an_earlier_job(vector_backend: Any, make: Any) -> None:
    """The empty list that we write where nobody named layers stands in nobody's way."""
    tile = Tile(A, gzip.compress(b""), "application/vnd.mapbox-vector-tile")
    archive = await filled(vector_backend, make, [tile])
    assert (await archive.source_info()).vector_layers == ""
    assert json.loads((await archive.describe()).metadata["json"]) == {"vector_layers": []}
    await archive.close()
    row = f'{{"vector_layers": {LAYERS}}}'
    again = await filled(vector_backend, make, [tile], area="two", metadata=(("json", row),))
    assert json.loads((await again.source_info()).vector_layers) == json.loads(LAYERS)
    await again.close()


async def test_picture_archive_names_no_vector_layers(backend: Any, make: Any) -> None:
    """A `json` row beside pictures would make a map program look for vectors."""
    row = f'{{"vector_layers": {LAYERS}}}'
    archive = await filled(backend, make, [make.png(A)], metadata=(("json", row),))
    assert (await archive.source_info()).vector_layers == ""
    await archive.close()


@pytest.mark.parametrize(
    ("metadata", "zooms", "bounds"),
    [
        ({"minzoom": "9", "maxzoom": "3"}, (4, 4), (0.0, 40.9798981, 22.5, 55.7765730)),
        ({"minzoom": "9"}, (4, 4), None),
        ({"bounds": "-1e9,-1e9,1e9,1e9"}, (4, 4), WORLD_DEG),
        ({"bounds": "-180,-90,180,90"}, (4, 4), WORLD_DEG),
        ({"bounds": "200,0,300,1"}, (4, 4), (0.0, 40.9798981, 22.5, 55.7765730)),
        ({"bounds": "nan,0,1,1"}, (4, 4), (0.0, 40.9798981, 22.5, 55.7765730)),
    ],
)
async def test_nonsense_in_the_metadata_gives_way_to_the_tiles(
    backend: Any, make: Any, metadata: Any, zooms: Any, bounds: Any
) -> None:
    """Bounds end at the world, zooms the wrong way round hide no tile."""
    store = backend.open()
    await store.begin(make.job(metadata=tuple(metadata.items())))
    await store.commit([make.png(A)])
    # Not finished: `finish` would mend the zooms, and an archive of others never was.
    info = await store.source_info()
    assert (info.zoom_min, info.zoom_max) == zooms
    if bounds is not None:
        assert info.bounds_deg == pytest.approx(bounds, abs=1e-6)
    await store.close()


async def test_name_of_a_source_is_one_line_without_controls(backend: Any, make: Any) -> None:
    """It is shown on terminals: no escape sequence of an archive gets there."""
    archive = await filled(backend, make, [make.png(A)], metadata=(("name", "Al\x1b[31mps\n!" + "x" * 999),))
    name = (await archive.source_info()).name
    assert name.startswith("Al [31mps !xxx")
    assert len(name) == 200
    await archive.close()


async def test_states_are_those_a_job_would_find_without_taking_the_store(backend: Any, make: Any) -> None:
    """Before, while and after a job writes it; the journal speaks last."""
    kept, gone, failed, pending = A, B, TileId(5, 17, 12), TileId(5, 17, 13)
    ids = [pending, failed, gone, kept]
    writer = backend.open()
    await writer.begin(make.job(planned=4))
    await writer.commit([make.png(kept), make.png(failed), make.absent(gone)])
    await writer.commit([make.dead(failed)])
    reader: TileArchive = backend.open()
    expected = [None, "dead", "absent", "done"]
    assert list(await reader.states(ids)) == list(await writer.settled(ids)) == expected
    assert await reader.states([]) == []
    assert not await reader.has_completed("area")
    await writer.finish(complete=False)
    await writer.close()
    assert list(await reader.states(ids)) == expected
    await reader.close()


async def test_complete_job_is_known_by_its_area(backend: Any, make: Any) -> None:
    """Its journal is gone: that an absent tile was absent is known of the whole job only."""
    archive: TileArchive = await filled(backend, make, [make.png(A), make.absent(B)], planned=2)
    assert await archive.has_completed("area")
    assert not await archive.has_completed("another area")
    # A journal of its own remembers the absent one as well.
    assert list(await archive.states([A, B])) == ["done", "absent" if backend.kind == "bucket" else None]
    await archive.close()
