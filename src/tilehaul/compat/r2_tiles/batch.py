"""One call for many tiles: what is kept, what is to be fetched, and the line in the log."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tilehaul.compat.r2_tiles.book import Book
from tilehaul.compat.r2_tiles.hauler import Found
from tilehaul.compat.r2_tiles.memory import KeptTiles
from tilehaul.compat.r2_tiles.place import Wanted, key_of, wanted_of
from tilehaul.errors import PlanError

log = logging.getLogger(__name__)

# (dataset, z, x, y, format), XYZ scheme.
Asked = tuple[object, int, int, int, str]


@dataclass(frozen=True, slots=True)
class Batch:
    """An answer for each key asked for, in the order of the question; `origins` counts where they came from.
    `missing`: what is still to be fetched.
    """

    bodies: dict[str, bytes | None]
    missing: dict[str, Wanted]
    origins: Counter[str]
    begun_s: float


def begin(tiles: Iterable[Asked], kept: KeptTiles, book: Book) -> Batch:
    """Look in memory. Raises ValueError for what has not five values."""
    batch = Batch({}, {}, Counter(), time.monotonic())
    for dataset, z, x, y, fmt in tiles:
        key = key_of(dataset, z, x, y, fmt)
        if key in batch.bodies:
            continue
        batch.bodies[key] = body = kept.find(key)
        book.looked(hit=body is not None)
        if body is not None:
            batch.origins["memory"] += 1
            continue
        try:
            batch.missing[key] = wanted_of(dataset, z, x, y, fmt)
        except PlanError as error:
            log.debug("no tile: %s", error)
            batch.origins["impossible"] += 1
    return batch


def ended(batch: Batch, found: Mapping[str, Found], workers: int) -> dict[str, bytes | None]:
    """The answers, with what was found; tells the log. No place is named: that says where people are."""
    bodies, origins = batch.bodies, batch.origins
    causes: Counter[str] = Counter()
    for key, one in found.items():
        bodies[key] = one.body
        origins[one.origin] += 1
        if one.cause:
            causes[one.cause] += 1
    took_s = time.monotonic() - batch.begun_s
    come = sum(body is not None for body in bodies.values())
    parts = ", ".join(f"{count} {origin}" for origin, count in origins.most_common())
    why = "; ".join(f"{count} x {cause}" for cause, count in causes.most_common())
    log.info(
        "fetched %d of %d tiles in %.2f s (%.1f tiles/s, %d workers): %s%s",
        come, len(bodies), took_s, come / max(took_s, 1e-6), workers, parts,
        f" ({why})" if why else "",
        extra={"facts": {"tiles": len(bodies), "came": come, "took_s": took_s, "causes": dict(causes)}},
    )  # fmt: skip
    return bodies
