"""`tilehaul.diff`: what one archive holds that another does not, tile by tile."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import NoTile
from tilehaul.wiring.copying import Held, open_listed
from tilehaul.wiring.pages import Side, pages_of, sides

# Tiles that a report names; the rest are counted.
NAMED_MAX = 20


@dataclass(slots=True)
class Difference:
    """Counts by zoom: only in the left archive, only in the right one, other bytes, the same bytes.

    `named` are the first NAMED_MAX that are not the same.
    """

    by_zoom: dict[int, dict[Side, int]] = field(default_factory=dict)
    named: list[tuple[TileId, Side]] = field(default_factory=list)

    def note(self, tile_id: TileId, side: Side) -> None:
        counts = self.by_zoom.setdefault(tile_id.z, {"left": 0, "right": 0, "changed": 0, "same": 0})
        counts[side] += 1
        if side != "same" and len(self.named) < NAMED_MAX:
            self.named.append((tile_id, side))

    def count(self, side: Side) -> int:
        return sum(counts[side] for counts in self.by_zoom.values())

    @property
    def same(self) -> bool:
        return not (self.count("left") or self.count("right") or self.count("changed"))


async def diff(
    left: str,
    right: str,
    *,
    area: Area | None = None,
    sending: Sending = SENDING_DEFAULT,
    told: Callable[[int], None] | None = None,
) -> Difference:
    """Compare two archives by the bytes of their tiles; what they say of themselves is not compared.

    Each is walked once in its own order; memory does not grow with them.

    Args:
        area: Only its tiles.
        told: Called now and then with the tiles compared so far.

    Raises PlanError when one of them is none; DataError, StorageError, TransferError.
    """
    ours = open_listed(left, sending=sending)
    try:
        theirs = open_listed(right, sending=sending)
        try:
            found = Difference()
            async for page in pages_of(aiter(Held(ours, area))):
                for tile_id, side in zip(page, await sides(page, ours, theirs), strict=True):
                    found.note(tile_id, side)
                if told is not None:
                    told(sum(sum(counts.values()) for counts in found.by_zoom.values()))
            async for page in pages_of(aiter(Held(theirs, area))):
                for tile_id, answer in zip(page, await asyncio.gather(*map(ours.get, page)), strict=True):
                    if isinstance(answer, NoTile):
                        found.note(tile_id, "right")
            return found
        finally:
            await theirs.close()
    finally:
        await ours.close()
