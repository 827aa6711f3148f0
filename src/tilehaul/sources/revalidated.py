"""Tiles that a cache has past their freshness are asked for only if they have changed."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf

from tilehaul.codec.cache_control import parse_lifetime
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.ports.clock import Clock
from tilehaul.ports.origin import UNNAMED, AskableSource, Heard, Validators
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile

# A map that is looked at asks for the tiles of one WMS picture within seconds. They are parts of one answer,
# also of one that must not be kept: or a service that forbids it would draw a picture for each of its tiles.
PARTS_S = 5.0

# What the caches have of a tile, fresh or not.
Known = Callable[[TileId], Awaitable[Tile | NoTile | None]]


class RevalidatedSource:
    """`TileSource` that heeds what its origin says of lifetimes.

    Each tile carries the freshness that `rule` makes of its answer's headers. "Not modified" is answered with
    the bytes that are known, when the words they are known by are this origin's own.

    Args:
        origin: Asked for each tile.
        known: Asked before each request for the tile to ask about.
        rule: What holds where the origin says nothing.
        clock: Says when, for dates in headers.
        forgotten_s: When the caches were last told to forget tiles, by `clock.now_s`: no part of an answer
            from before is given after that.
    """

    def __init__(
        self,
        origin: AskableSource,
        *,
        known: Known,
        rule: FreshnessRule,
        clock: Clock,
        forgotten_s: Callable[[], float] = lambda: -inf,
    ) -> None:
        self._origin = origin
        self._known = known
        self._rule = rule
        self._clock = clock
        self._forgotten_s = forgotten_s

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """As the source inside: raises as it does."""
        known = await self._known(tile_id)
        named = self._names_of(known)
        heard = await self._origin.ask(tile_id, named)
        answer = self._dated(heard, known, named)
        if heard.anew is not None and self._is_past(answer, heard.age_s):
            answer = self._dated(await heard.anew(), known, named)
        return answer

    def _is_past(self, answer: Tile | NoTile, age_s: float) -> bool:
        if self._clock.now_s() - age_s <= self._forgotten_s():
            return True
        return age_s > PARTS_S and (answer.freshness is None or answer.freshness.left_s <= 0)

    def _names_of(self, known: Tile | NoTile | None) -> Validators:
        if not isinstance(known, Tile) or known.freshness is None:
            return UNNAMED
        freshness = known.freshness
        if freshness.source != self.info.identity:
            return UNNAMED
        return Validators(freshness.etag, freshness.last_modified)

    def _dated(self, heard: Heard, known: Tile | NoTile | None, named: Validators) -> Tile | NoTile:
        answer, headers = heard.answer, heard.headers
        if answer is None:
            assert isinstance(known, Tile)  # noqa: S101 - the names are this tile's
            answer, headers = replace(known, place="origin"), named.kept_by(headers)
        if isinstance(answer, NoTile):
            return answer
        lifetime = parse_lifetime(headers, wall_s=self._clock.wall_s() - heard.age_s)
        freshness = self._rule.told(lifetime, self.info.identity)
        if heard.age_s:
            freshness = freshness._replace(age_s=freshness.age_s + heard.age_s)
        return replace(answer, freshness=freshness)
