"""The backends every contract suite runs over: one line each."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from doubles.bucket import bucket_store
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.bucket import LabBucket
from tilehaul.ports.store import DeadLetter, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.bucket import BucketStore
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.memory import MemoryStore
from tilehaul.stores.pmtiles import PmtilesStore

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"
AnyStore = BucketStore | GeopackageStore | MbtilesStore | DirectoryStore | MemoryStore | PmtilesStore


@dataclass
class Backend:
    """One place of one kind; `open` gives the store there, as a new process would find it.

    With `durability="fast"`: what syncing adds shows only when the power goes; test_crash.py uses `full`.
    """

    kind: str
    folder: Path
    kept: MemoryStore = field(default_factory=MemoryStore)
    bucket: LabBucket = field(default_factory=LabBucket)

    def open(self) -> AnyStore:
        if self.kind in ("mbtiles", "mbtiles-dedup"):
            deduplicate = self.kind == "mbtiles-dedup"
            return MbtilesStore(self.folder / "store.mbtiles", deduplicate=deduplicate, durability="fast")
        if self.kind == "geopackage":
            return GeopackageStore(self.folder / "store.gpkg", durability="fast")
        if self.kind == "pmtiles":
            return PmtilesStore(self.folder / "store.pmtiles", durability="fast")
        if self.kind in ("directory", "directory-tms"):
            return DirectoryStore(self.folder / "store", durability="fast", tms=self.kind.endswith("-tms"))
        if self.kind == "bucket":
            return bucket_store(self.bucket, self.folder / "store.journal")
        return self.kept

    def leftovers(self) -> set[str]:
        """What lies beside the store and should not."""
        names = {path.name for path in self.folder.iterdir()}
        pmtiles = {f"store.pmtiles{ending}" for ending in ("", ".part", ".journal")}
        return names - {"store.mbtiles", "store.gpkg", "store", "store.journal"} - pmtiles


BACKENDS = (
    "mbtiles",
    "mbtiles-dedup",
    "geopackage",
    "pmtiles",
    "directory",
    "directory-tms",
    "bucket",
    "memory",
)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return Backend(request.param, tmp_path)


# A GeoPackage holds pictures only.
@pytest.fixture(params=[kind for kind in BACKENDS if kind != "geopackage"])
def vector_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return Backend(request.param, tmp_path)


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make() -> "Make":
    return Make()


class Make:
    """Values for the suites, one short name each."""

    def backend(self, kind: str) -> "Iterator[Backend]":
        with tempfile.TemporaryDirectory() as folder:
            yield Backend(kind, Path(folder))

    def job(self, area: str = "area", source: str = "source", **others: object) -> JobKey:
        values: dict[str, object] = {"planned": 10, "source_name": f"name of {source}", **others}
        return JobKey(source_identity=source, area_identity=area, **values)  # type: ignore[arg-type]

    def png(self, tile_id: TileId, text: bytes = b"") -> Tile:
        return Tile(tile_id, PNG + str(tile_id).encode() + text, "image/png")

    def jpeg(self, tile_id: TileId, text: bytes = b"") -> Tile:
        return Tile(tile_id, JPEG + str(tile_id).encode() + text, "image/jpeg")

    def absent(self, tile_id: TileId) -> NoTile:
        return NoTile(tile_id, "http_404")

    def dead(self, tile_id: TileId, cause: str = "http_500") -> DeadLetter:
        return DeadLetter(tile_id, cause, 6, "https://host/t?key=***", "one line", b"<html>")
