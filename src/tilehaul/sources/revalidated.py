"""Tiles that a cache has past their freshness are asked for only if they have changed."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from tilehaul.codec.cache_control import parse_lifetime
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.ports.clock import Clock
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Response
from tilehaul.sources.xyz import Headers, XyzSource, condition_of

# What the caches have of a tile, fresh or not.
Known = Callable[[TileId], Awaitable[Tile | NoTile | None]]


class RevalidatedSource:
    """`TileSource` over an XYZ one that heeds what its origin says of lifetimes.

    Each tile carries the freshness that `rule` makes of its answer's headers. "Not modified" is answered with
    the bytes that are known, when the words they are known by are this origin's own.

    Args:
        xyz: The origin.
        known: Asked before each request for the tile to ask about.
        rule: What holds where the origin says nothing.
        clock: Says when, for dates in headers.
    """

    def __init__(self, xyz: XyzSource, *, known: Known, rule: FreshnessRule, clock: Clock) -> None:
        self._xyz = xyz
        self._known = known
        self._rule = rule
        self._clock = clock

    @property
    def info(self) -> SourceInfo:
        return self._xyz.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """As the source inside: raises as it does."""
        if not self._xyz.covers(tile_id):
            return NoTile(tile_id, "out_of_range")
        known = await self._known(tile_id)
        condition: Headers = ()
        if isinstance(known, Tile) and known.freshness is not None:
            freshness = known.freshness
            if freshness.source == self.info.identity:
                condition = condition_of(freshness.etag, freshness.last_modified)
        response = await self._ask(tile_id, condition)
        if condition and response.status == 304 and isinstance(known, Tile):
            return self._renewed(known, response)
        answer = self._xyz.answer(tile_id, response)
        return self._dated(answer, response.headers) if isinstance(answer, Tile) else answer

    async def _ask(self, tile_id: TileId, condition: Headers) -> Response:
        request = self._xyz.request(tile_id)
        return await self._xyz.sender.send(request._replace(headers=(*request.headers, *condition)))

    def _renewed(self, known: Tile, response: Response) -> Tile:
        # A 304 need not say again what the answer it confirms has said (RFC 9110, 15.4.5): the words it is
        # known by stay.
        assert known.freshness is not None  # noqa: S101 - a condition was made of it
        before = {"etag": known.freshness.etag, "last-modified": known.freshness.last_modified}
        told = {name: value for name, value in before.items() if value} | dict(response.headers)
        return self._dated(replace(known, place="origin"), told)

    def _dated(self, tile: Tile, headers: Mapping[str, str]) -> Tile:
        lifetime = parse_lifetime(headers, wall_s=self._clock.wall_s())
        return replace(tile, freshness=self._rule.told(lifetime, self.info.identity))
