"""`tilehaul copy --pixels`: a picture into a store of its tiles, exact after any crash."""

import asyncio
import os
import secrets
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import xxhash

from tilehaul.codec.sniff import JPEG, PNG, TIFF, WEBP
from tilehaul.config.locations import check_name, parse_location
from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.pyramid import TILE_SIZE_DEFAULT, Pyramid, grid_of
from tilehaul.jobs.event_log import log_event
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.seed import seed as run_seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.jobs.stop import Stop
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.correlation import JOB_ID
from tilehaul.ports.events import Event, SeedReport, Watch
from tilehaul.ports.store import JobKey
from tilehaul.sources.picture import Cut, PictureSource
from tilehaul.sources.picture_file import PictureFile, open_picture
from tilehaul.sources.reencoded import Encoding
from tilehaul.stores.archive_metadata import format_of
from tilehaul.wiring.places import open_store
from tilehaul.wiring.reading import reading
from tilehaul.wiring.seeding import JOB_ID_BYTES, SeedOptions, metadata_of, plan_with

# Bytes of a picture read at once to tell whether it is the same one.
READ_BYTES = 1 << 20
# The tiles' format where nobody says: the picture's own. A TIFF is a photograph or a scan.
_FORMATS = {JPEG: "jpg", PNG: "png", WEBP: "webp", TIFF: "jpg"}


@dataclass(frozen=True, slots=True)
class Planned:
    """A picture as it would be cut, without having read more than its header."""

    picture: PictureFile
    pyramid: Pyramid
    encoding: Encoding


def plan_picture(
    source: str, *, tile_size: int = TILE_SIZE_DEFAULT, encoding: Encoding | None = None
) -> Planned:
    """Look at a picture's header.

    Args:
        source: A JPEG, PNG, TIFF or WebP file on this machine.
        tile_size: 256 or 512 pixels.
        encoding: Of the tiles; None or without a format: the picture's own (of a TIFF: JPEG, or PNG where
            it has an alpha channel), with the quality that it names.

    Raises:
        PlanError: No such picture, or none that can be cut.
        ConfigError: Pillow is missing.
        StorageError: The disk refused.
    """
    check_name(source)
    picture = open_picture(Path(source))
    pyramid = Pyramid(picture.width, picture.height, tile_size)
    chosen = encoding or Encoding()
    if not chosen.format_name:
        lossless = picture.media_type == TIFF and picture.mode == "RGBA"
        chosen = replace(chosen, format_name="png" if lossless else _FORMATS[picture.media_type])
    return Planned(picture, pyramid, chosen)


async def copy_picture(
    source: str,
    store: str,
    *,
    tile_size: int = TILE_SIZE_DEFAULT,
    encoding: Encoding | None = None,
    padded: bool = False,
    options: SeedOptions | None = None,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> SeedReport:
    """Cut a picture into the tiles of its pyramid; run it again to go on.

    A picture that is in the store already costs reading it once, undecoded: its bytes say that it is the
    same. Going on after an interruption decodes it again from the top, and encodes what is missing only.

    Args:
        source, tile_size, encoding: As for `plan_picture`.
        padded: Fill up tiles at the right and lower edge, white or transparent, for who wants all tiles
            of one size. A GeoPackage's always are: its standard says so.
        store: As for `seed`.
        options: As for `seed`; its encoding and refresh have no meaning here.
        watch, stop: As for `seed`.

    Returns and raises as `seed`. PlanError also as `plan_picture`, with `force_source`, and when the store
    has another picture's tiles; StorageError when the picture cannot be decoded: what came before is kept.
    """
    chosen = options or SeedOptions()
    if chosen.force_source:
        raise PlanError("tiles of two pictures make none: leave out --force-source and name another store")
    if chosen.refresh_older_s is not None or chosen.keep_freshness or chosen.encoding is not None:
        raise PlanError("a picture is cut as it is: it has no age, and its encoding is told by `encoding`")
    planned = await asyncio.to_thread(plan_picture, source, tile_size=tile_size, encoding=encoding)
    path = planned.picture.path
    before = _stamp(path)
    place = parse_location(store)
    keeper = open_store(
        place,
        durability=chosen.durability,
        sending=chosen.sending,
        journal=chosen.journal,
        deduplicate=chosen.deduplicate,
    )
    job_id = chosen.job_id or secrets.token_hex(JOB_ID_BYTES)
    job = JOB_ID.set(job_id)
    try:
        fingerprint = await asyncio.to_thread(_fingerprint, path)
        padded = padded or place.kind == "geopackage"
        cut = Cut(planned.picture, planned.pyramid, planned.encoding, fingerprint, padded)
        plan = replace(
            _plan(cut, store, chosen), job_id=job_id, objection=partial(_changed_since, path, before)
        )
        async with reading(watch) as tell:

            def told(event: Event) -> None:
                log_event(event)
                tell.job(event)

            with closing(PictureSource(cut)) as pieces:
                return await run_seed(
                    Origin(pieces), keeper, plan, tally=Tally(), clock=SystemClock(), watch=told, stop=stop
                )
    finally:
        JOB_ID.reset(job)
        await keeper.close()


def _plan(cut: Cut, store: str, options: SeedOptions) -> SeedPlan:
    info, pyramid = cut.info, cut.pyramid
    key = JobKey(
        source_identity=info.identity,
        source_name=info.name,
        area_identity=f"{pyramid.width}x{pyramid.height}/{pyramid.tile_size}",
        planned=pyramid.tiles,
        grid=grid_of(pyramid),
        metadata=metadata_of(
            info,
            name=cut.picture.path.stem,
            zooms=range(pyramid.zoom_max + 1),
            bounds_deg=info.bounds_deg,
            format_name=format_of(info.media_type),
        ),
    )
    # Encoding keeps the cores busy, and each worker holds one tile: one more than cores is enough.
    workers = (os.cpu_count() or 1) + 1
    return replace(plan_with(options, pyramid.walk(), key, store, job="copy"), workers=workers)


def _fingerprint(path: Path) -> str:
    """32 hex digits over every byte. Raises StorageError."""
    seen = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                seen.update(piece)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    return seen.hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _changed_since(path: Path, before: tuple[int, int, int] | None) -> str:
    """Why what was made is not the picture's: it has been changed meanwhile; "" when it has not."""
    if _stamp(path) == before:
        return ""
    return f"{path} was changed or replaced while it was cut: remove the store and cut it again"
