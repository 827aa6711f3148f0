"""Tiles of an HTTP service, by a URL template."""

from collections.abc import Sequence
from dataclasses import dataclass

from tilehaul.codec.url_template import UrlTemplate, parse_template
from tilehaul.errors import BrokenError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.origin import UNNAMED, Heard, Validators
from tilehaul.ports.source import WORLD_DEG, SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import MIB, Request, Response, Sender

Headers = tuple[tuple[str, str], ...]

BODY_BYTES_MAX = 8 * MIB
# 400 comes through only when the service says: no such tile (`net/verified.py`).
_ABSENT = {204: "http_204", 400: "out_of_range", 404: "http_404", 410: "http_410"}


@dataclass(frozen=True, slots=True)
class XyzSource:
    """Asks `sender`, a verified one, for the address `template` gives.

    A tile beyond the source's zooms or the grid is answered `out_of_range` without a request.
    `headers`, `lane_class` and `body_bytes_max` go into every request.
    """

    template: UrlTemplate
    sender: Sender
    info: SourceInfo
    headers: Headers = ()
    lane_class: str = "tile"
    body_bytes_max: int = BODY_BYTES_MAX

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """One tile.

        Raises:
            TransferError: From the sender, as it came; BrokenError for a status the sender lets
                through and nothing here asked for.
            DataError: From the sender: the body is not the tile it claims to be.
        """
        return (await self.ask(tile_id)).told

    async def ask(self, tile_id: TileId, named: Validators = UNNAMED) -> Heard:
        """See `Askable.ask`. Raises as `get`."""
        if not self._covers(tile_id):
            return Heard(NoTile(tile_id, "out_of_range"))
        request = self.request(tile_id)
        if condition := named.condition:
            request = request._replace(headers=(*request.headers, *condition))
        response = await self.sender.send(request)
        if condition and response.status == 304:
            return Heard(None, response.headers)
        return Heard(self._answer(tile_id, response), response.headers)

    def _covers(self, tile_id: TileId) -> bool:
        """Whether the tile is within the source's zooms and the grid."""
        z = tile_id.z
        return self.info.zoom_min <= z <= self.info.zoom_max and (
            0 <= tile_id.x < 1 << z and 0 <= tile_id.y < 1 << z
        )

    def _answer(self, tile_id: TileId, response: Response) -> Tile | NoTile:
        """What a verified response says of the tile. Raises BrokenError: see `get`."""
        info = self.info
        if response.status in (200, 206):
            return Tile(tile_id, response.body, response.media_type or info.media_type)
        absent = _ABSENT.get(response.status)
        if absent is not None:
            return NoTile(tile_id, absent)
        raise BrokenError(
            f"{info.name} answered tile {tile_id} with HTTP {response.status}",
            url=self.template.shown,
            cause=f"http_{response.status}",
        )

    def request(self, tile_id: TileId) -> Request:
        """What is sent for a tile of the grid."""
        return Request(
            self.template.url(tile_id),
            headers=self.headers,
            lane_class=self.lane_class,
            body_bytes_max=self.body_bytes_max,
        )

    @staticmethod
    def opener(
        text: str,
        *,
        headers: Headers = (),
        lane_class: str = "tile",
        body_bytes_max: int = BODY_BYTES_MAX,
        info: SourceInfo | None = None,
        ratio: int = 1,
        subdomains: Sequence[str] | None = None,
        tms: bool = False,
    ) -> "XyzOpener":
        """Everything about a source but its sender: see `parse_template` for the last three.

        `info` defaults to what the template tells (`describe_template`).

        Raises:
            ConfigError: The template is wrong.
        """
        if subdomains is None:
            template = parse_template(text, ratio=ratio, tms=tms)
        else:
            template = parse_template(text, ratio=ratio, tms=tms, subdomains=subdomains)
        return XyzOpener(template, info or describe_template(template), headers, lane_class, body_bytes_max)


@dataclass(frozen=True, slots=True)
class XyzOpener:
    """A source that waits for its sender: call it with one."""

    template: UrlTemplate
    info: SourceInfo
    headers: Headers
    lane_class: str
    body_bytes_max: int

    @property
    def typed_urls(self) -> tuple[str, ...]:
        """One address for every host the operator's template can reach."""
        return self.template.samples

    def __call__(self, sender: Sender) -> XyzSource:
        return XyzSource(self.template, sender, self.info, self.headers, self.lane_class, self.body_bytes_max)


def describe_template(
    template: UrlTemplate,
    *,
    name: str = "",
    zoom_min: int = 0,
    zoom_max: int = ZOOM_MAX,
    bounds_deg: tuple[float, float, float, float] = WORLD_DEG,
    attribution: str = "",
) -> SourceInfo:
    """What a template tells of its source; the rest is for the caller to know."""
    return SourceInfo(
        name=name or template.shown,
        identity=template.identity,
        media_type=template.media_type,
        zoom_min=zoom_min,
        zoom_max=zoom_max,
        bounds_deg=bounds_deg,
        attribution=attribution,
    )
