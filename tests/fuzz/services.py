"""The whole reading of a service's capabilities: what opening a WMS or a WMTS does, without a network."""

from collections.abc import Coroutine
from typing import TypeVar

from doubles.wms import CAPABILITIES_111, CAPABILITIES_130
from doubles.wmts import SCALE_0, document, matrix
from tilehaul.codec.wms_request import parse_wms_location
from tilehaul.codec.wmts_request import parse_wmts_location
from tilehaul.config.sending import Sending
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.wire import Request, Response
from tilehaul.wiring.wms import open_wms
from tilehaul.wiring.wmts import open_wmts

T = TypeVar("T")

WMS_SEEDS = (
    (CAPABILITIES_130 % {"url": "http://h/wms?", "east": "180", "most": "2048"}).encode(),
    CAPABILITIES_111.encode(),
)
_EAST = matrix("east", SCALE_0 / 8, "0 10018754.1714", side=2)
WMTS_SEEDS = (document(), document(matrices=matrix("EPSG:3857:0", SCALE_0) + _EAST))

_WMS = parse_wms_location("wms+http://h/wms?layers=relief&tilehaul.buffer=0&tilehaul.meta=1")
_WMTS = tuple(
    parse_wmts_location(f"wmts+http://h/wmts?layer=alps&tilehaul.encoding={name}") for name in ("rest", "kvp")
)


class Service:
    """Answers one document to every question."""

    def __init__(self, document: bytes) -> None:
        self.document = document

    async def send(self, request: Request) -> Response:
        return Response(request.url, 200, {"content-type": "text/xml"}, self.document)


def open_wms_of(body: bytes) -> None:
    """Raises what `open_wms` does."""
    source = at_once(open_wms(_WMS, Service(body), Sending()))
    block = source.block_of(TileId(2, 1, 1))
    one_word(source.request(block))


def open_wmts_of(body: bytes) -> None:
    """Raises what `open_wmts` does."""
    for place in _WMTS:
        source = at_once(open_wmts(place, Service(body), Sending()))
        for z in source.matrices:
            one_word(source.request(TileId(z, 0, 0)))


def one_word(request: Request) -> None:
    """An address the wire would refuse must be refused when the service is opened."""
    url = request.url
    if not url.lower().startswith(("http://", "https://")) or any(
        ord(char) <= 32 or ord(char) == 127 for char in url
    ):
        raise AssertionError(f"no address: {url!r}")


def at_once(asking: Coroutine[None, None, T]) -> T:
    """The end of a coroutine that waits for nothing."""
    try:
        asking.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise AssertionError("it waits for something")
