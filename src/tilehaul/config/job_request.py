"""What a client of the service may ask of a job: names and numbers, never an address or a path."""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tilehaul.errors import PlanError
from tilehaul.grid.area import Area, parse_zooms
from tilehaul.policy.fuse import FAILURES_DEFAULT, FailureLimit

# One file or folder: no separators, no way up, no drive, no device. A folder's name has no dot, so that it
# is never the journal or spool beside another store.
_STORE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.(?:mbtiles|pmtiles)|[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Of what is said about a broken body, so many characters are repeated.
_TOLD_CHARS_MAX = 200
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")

BBox = tuple[float, float, float, float]
# Few enough to be counted while other requests wait: 31 zooms take some 10 ms.
BOXES_MAX = 100


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /api/jobs`.

    `source` names a layer, `store` a file in the folder of jobs. Exactly one of `bbox` (west, south, east,
    north in degrees), `bboxes` (several of these, at most BOXES_MAX) and `region` (GeoJSON). `deadline` in
    seconds, `max_failures` a count or "1%".
    """

    source: str
    store: str
    zooms: str
    bbox: BBox | None = None
    bboxes: Annotated[tuple[BBox, ...], Meta(min_length=1, max_length=BOXES_MAX)] | None = None
    region: dict[str, Any] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    rate_limit: Annotated[float, Meta(gt=0)] | None = None
    retries: Annotated[int, Meta(ge=0, le=100)] = 5
    max_failures: Annotated[int, Meta(ge=0)] | str | None = None
    deadline: Annotated[float, Meta(gt=0)] | None = None
    overwrite: bool = False


def parse_job_request(body: bytes) -> JobRequest:
    """Raises PlanError, saying which key is wrong."""
    try:
        return msgspec.json.decode(body, type=JobRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        told = str(error)[:_TOLD_CHARS_MAX] or "it is nested too deep"
        # Unknown keys are repeated as the client wrote them.
        plain = "".join(char if char.isprintable() else "?" for char in told)
        raise PlanError(f"the body is no job: {plain}") from error


def store_of(name: str, folder: Path) -> Path:
    """The place of a store. Raises PlanError when the name could be anything but a file in `folder`."""
    if not _STORE.fullmatch(name):
        raise PlanError(
            "store: a plain name is wanted, NAME.mbtiles, NAME.pmtiles, or NAME for a folder of files:"
            " at most 64 letters, digits, '-' and '_' that begin with a letter or digit"
        )
    return folder / name


def area_of(request: JobRequest, tiles_max: int) -> Area:
    """The area asked for. Raises PlanError, also when the box around it has more than `tiles_max` tiles."""
    zooms = parse_zooms(request.zooms)
    if sum(place is not None for place in (request.bbox, request.bboxes, request.region)) != 1:
        raise PlanError("give one of bbox, bboxes and region")
    if request.bbox is not None:
        area = box = Area.from_bbox(*request.bbox, zooms=zooms)
    elif request.bboxes is not None:
        area = box = Area.from_boxes(request.bboxes, zooms)
    else:
        area = Area.from_geojson(request.region, zooms)
        # To count a polygon takes a while when it is fine and large: its box is counted at once.
        box = Area.from_bbox(*area.bounds_deg, zooms=zooms)
    if (count := box.count()) > tiles_max:
        raise PlanError(f"the box around the area has {count} tiles, more than jobs.tiles_max: {tiles_max}")
    return area


def failures_of(told: int | str | None) -> FailureLimit:
    """`max_failures` as a limit; None: the default of every seed. Raises PlanError."""
    if told is None:
        return FAILURES_DEFAULT
    if isinstance(told, int):
        return FailureLimit(count=told)
    match = _SHARE.fullmatch(told)
    if match is None or float(match[1]) > 100.0:
        raise PlanError('max_failures: a count such as 10 or a share such as "1%" is wanted')
    return FailureLimit(share=float(match[1]) / 100.0)
