"""`tilehaul.verify`: is an archive what it says it is, every tile of it?"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tilehaul.config.locations import parse_location
from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.errors import DataError, RefusedError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.stored import StoredSource
from tilehaul.stores.archive_check import check_structure
from tilehaul.stores.archive_metadata import Bounds, media_type_of_format, parse_bounds
from tilehaul.wiring.pages import pages_of
from tilehaul.wiring.places import open_archive

# Tiles that a report names; the rest are counted.
NAMED_MAX = 20
# Declared bounds are written in degrees with seven digits and less.
BOUNDS_SLACK_DEG = 1e-5

Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class WrongTile:
    """One tile that is not whole, or not what it claims. `cause` as of the error."""

    tile_id: TileId
    cause: str
    message: str


@dataclass(slots=True)
class VerifyReport:
    """`faults` are of the archive as a whole, a line each.

    `wrong` are the first NAMED_MAX of `wrong_count` tiles. `bytes` and `media_types` are of the others.
    """

    location: str
    kind: str
    tiles: int = 0
    bytes: int = 0
    wrong_count: int = 0
    media_types: dict[str, int] = field(default_factory=dict)
    wrong: list[WrongTile] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.faults or self.wrong_count)


async def verify(
    location: str, *, sending: Sending = SENDING_DEFAULT, told: Told | None = None
) -> VerifyReport:
    """Read all of an archive and compare it with what it says of itself.

    Checked: the file's own structure; that every listed tile is there and passes the checks of a fetched one
    (magic, trailer, PNG checksums); format, zooms, bounds and count as declared; that no job has left it
    unfinished.

    Args:
        location: An archive.
        told: Called now and then with the tiles read and the tiles there are.

    Raises PlanError when there is none, DataError when it cannot be opened, StorageError, and for a bucket
    what the network raises.
    """
    place = parse_location(location)
    archive = open_archive(place, sending=sending)
    try:
        source = await StoredSource.open(archive, location=place.text)
        info = await archive.describe()
        report = VerifyReport(info.location, info.kind)
        report.faults += await asyncio.to_thread(check_structure, info.kind, place.path)
        outside = 0
        zooms: set[int] = set()
        bounds_deg = parse_bounds(info.metadata.get("bounds", ""))
        async for page in pages_of(archive.tile_ids()):
            answers = await asyncio.gather(*(_read(source, tile_id) for tile_id in page))
            for tile_id, answer in zip(page, answers, strict=True):
                report.tiles += 1
                zooms.add(tile_id.z)
                outside += bounds_deg is not None and _is_outside(tile_id, bounds_deg)
                _note(report, tile_id, answer)
            if told is not None:
                told(report.tiles, info.tiles)
        report.faults += _against_declared(report, info, zooms, outside)
        return report
    finally:
        await archive.close()


async def _read(source: StoredSource, tile_id: TileId) -> Tile | NoTile | DataError | RefusedError:
    try:
        return await source.get(tile_id)
    except (DataError, RefusedError) as error:
        return error


def _note(report: VerifyReport, tile_id: TileId, answer: Tile | NoTile | DataError | RefusedError) -> None:
    if isinstance(answer, Tile):
        report.bytes += len(answer.body)
        report.media_types[answer.media_type] = report.media_types.get(answer.media_type, 0) + 1
        return
    report.wrong_count += 1
    if len(report.wrong) < NAMED_MAX:
        cause = answer.cause
        said = "it is listed, and not there" if isinstance(answer, NoTile) else str(answer)
        report.wrong.append(WrongTile(tile_id, cause, said))


def _is_outside(tile_id: TileId, declared_deg: Bounds) -> bool:
    """Whether no part of the tile is within the declared bounds."""
    west, south, east, north = tile_id.bounds_deg
    slack = BOUNDS_SLACK_DEG
    return (
        east <= declared_deg[0] + slack
        or west >= declared_deg[2] - slack
        or north <= declared_deg[1] + slack
        or south >= declared_deg[3] - slack
    )


def _against_declared(report: VerifyReport, info: StoreInfo, zooms: set[int], outside: int) -> list[str]:
    """What the archive says of itself that is not so."""
    faults = []
    if report.tiles != info.tiles:
        faults.append(f"it counts {info.tiles:,} tiles and lists {report.tiles:,}")
    declared = media_type_of_format(info.metadata.get("format", ""))
    others = {name: count for name, count in report.media_types.items() if declared and name != declared}
    if others:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(others.items()))
        faults.append(f"its format is declared as {declared}, and there are {told}")
    for name, real in (("minzoom", min(zooms, default=None)), ("maxzoom", max(zooms, default=None))):
        said = info.metadata.get(name, "")
        if real is not None and said.strip() and said.strip() != str(real):
            faults.append(f"its {name} is declared as {said.strip()[:20]}, and is {real}")
    if outside:
        faults.append(f"{outside:,} tiles lie outside its declared bounds {info.metadata['bounds'][:80]}")
    if info.state == "partial":
        left = f"{info.dead:,} dead tiles" if info.dead else "tiles of its job are pending"
        faults.append(f"it is not complete: {left}; run its `tilehaul seed` again")
    return faults
