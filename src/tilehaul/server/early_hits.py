"""Answer a tile that is in memory before the framework hears of the request.

uvicorn hands each parsed request to an ASGI task, and the framework routes it; both cost more
than looking up a tile. `server/protocol.py` asks here first, straight from the parser's callback,
and what is found is written out whole. Everything that is not sure goes the usual way: errors,
HTTP/1.0, upgrades, requests with a body, requests behind an unfinished one on the same connection,
clients that do not read.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from tilehaul.codec.sniff import media_type_of
from tilehaul.errors import TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import (
    EXTENSION_KINDS,
    cache_status,
    etag_matches,
    missing_reply,
    render,
)
from tilehaul.policy.freshness import Freshness
from tilehaul.ports.store import CacheStats, TileCache
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.server.callers import Callers
from tilehaul.server.cors import Cors
from tilehaul.server.reply import BODILESS, accepts_gzip, head_bytes, own_request_id

PREFIX = b"/api/tiles/"

# Columns and rows stay below 2**30.
DIGITS_MAX = 10

_KINDS = {ext.encode(): kind for ext, kind in EXTENSION_KINDS.items()}
# A request that carries one of these is not the plain question this door answers.
NOT_PLAIN = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_AGE = b"age: "
_HIT = b"\r\ncache-status: tilehaul; hit; ttl="


class HotEntry(Protocol):
    """One entry of a `HotCache`; `ready` is ours to fill."""

    answer: Tile | NoTile
    expires_s: float
    fresh_s: float
    ready: object | None


class CacheSizes(Protocol):
    """How much a cache holds: `layer_size` is (tiles, bytes) of one layer."""

    def layer_size(self, layer: str) -> tuple[int, int]: ...

    def stats(self) -> CacheStats: ...


class HotCache(TileCache, CacheSizes, Protocol):
    """A cache whose entries can be looked at, and can carry what was made of them.

    `forget` drops the tiles of a layer that are wanted.
    """

    def entry(self, key: tuple[str, int, int, int], now_s: float) -> Any: ...

    def hit(self, entry: Any) -> None: ...

    def holds(self, layer: str, tile_id: TileId) -> bool: ...

    def miss(self) -> None: ...

    def forget(self, layer: str, wanted: Callable[[TileId], bool]) -> int: ...


class _Ready:
    """The finished part of a cached tile's answers, up to the seconds it stays fresh."""

    __slots__ = ("body", "etag", "etag_text", "gzipped", "head_200", "head_304", "kind", "layer")

    def __init__(self, tile: Tile, layer: Layer, cors: Cors) -> None:
        rendition = render(tile, layer)
        self.layer = layer
        shared = cors.applied(rendition.shared, "")
        length = ("content-length", str(len(rendition.body)))
        self.head_200 = head_bytes(200, (*rendition.entity, length, *shared)) + _AGE
        self.head_304 = head_bytes(304, shared) + _AGE
        self.body = rendition.body
        self.etag_text = rendition.etag
        self.etag = rendition.etag.encode()
        self.gzipped = rendition.gzipped
        self.kind = rendition.kind


class EarlyHits:
    """Finds finished answers for raw requests.

    Args:
        callers: The layers, and who may have which. Only these are answered early.
        cache: Where their `CachedSource`s keep what they got.
        now_s: The cache's time.
        new_request_id: Names a request that brought no usable X-Request-Id.
        cors: Which pages may read the answers.
    """

    def __init__(
        self,
        callers: Callers,
        cache: HotCache,
        now_s: Callable[[], float],
        new_request_id: Callable[[], str],
        cors: Cors,
    ) -> None:
        self._layers = {name.encode(): layer for name, layer in callers.layers.items()}
        self._callers = callers if callers.ring is not None else None
        self._cache = cache
        self._now_s = now_s
        self._new_request_id = new_request_id
        self._cors = cors
        self._tail_of: list[tuple[bytes, bytes]] | None = None
        self._tail = b"\r\n\r\n"

    def answer(
        self,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        default_headers: list[tuple[bytes, bytes]],
        *,
        with_body: bool,
    ) -> bytes | None:
        """The whole answer, ready to write; None when the request must go the usual way.

        Args:
            url: The request's target as it came, beginning with `PREFIX`.
            headers: Names in lower case.
            default_headers: uvicorn's own (Date, Server); a new list whenever they change.
        """
        path, _, query = url[len(PREFIX) :].partition(b"?")
        parts = path.split(b"/")
        if len(parts) != 4:
            return None
        name, z, x, file_name = parts
        y, _, ext = file_name.partition(b".")
        layer = self._layers.get(name)
        # Digits only: int() alone would also take b"+1", b" 1" and b"1_0".
        if layer is None or not (z.isdigit() and x.isdigit() and y.isdigit()):
            return None
        if len(z) > 2 or len(x) > DIGITS_MAX or len(y) > DIGITS_MAX:
            return None
        if self._callers is not None and not self._callers.may_have(layer, headers, query):
            return None
        fields, kind = _fields(headers), _KINDS.get(ext)
        if fields is None or kind is None:
            return None
        if_none_match, encodings, told_id = fields
        now_s = self._now_s()
        entry: HotEntry | None = self._cache.entry((layer.name, int(z), int(x), int(y)), now_s)
        if entry is None or (layer.formats and media_type_of(ext.decode()) not in layer.formats):
            return None
        if default_headers is not self._tail_of:
            self._tail = b"\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in default_headers) + b"\r\n"
            self._tail_of = default_headers
        left_s = entry.expires_s - now_s
        if isinstance(entry.answer, NoTile):
            self._cache.hit(entry)
            layer.stats.hits += 1
            return self._missing(
                replace(entry.answer, freshness=Freshness(entry.fresh_s, entry.fresh_s - left_s)),
                layer,
                headers,
                told_id.decode("latin-1"),
                if_none_match=if_none_match.decode("latin-1"),
                with_body=with_body,
            )
        ready = entry.ready
        if not isinstance(ready, _Ready) or ready.layer is not layer:  # or the layer's settings have changed
            try:
                ready = entry.ready = _Ready(entry.answer, layer, self._cors)
            except TilehaulError:
                # The usual way meets the same error and answers it properly.
                return None
        if kind != ready.kind or (ready.gzipped and not accepts_gzip(encodings.decode("latin-1"))):
            return None
        self._cache.hit(entry)
        layer.stats.hits += 1
        told = b"%d%b%d" % (entry.fresh_s - left_s, _HIT, left_s)
        if told_id and own_request_id(told_id.decode("latin-1")):
            told += b"\r\nx-request-id: " + told_id
        if not self._cors.open:
            told += self._cors.lines(_origin(headers))
        if if_none_match and (
            if_none_match == ready.etag or etag_matches(if_none_match.decode("latin-1"), ready.etag_text)
        ):
            return b"".join((ready.head_304, told, self._tail))
        if not with_body:
            return b"".join((ready.head_200, told, self._tail))
        return b"".join((ready.head_200, told, self._tail, ready.body))

    def _missing(
        self,
        answer: NoTile,
        layer: Layer,
        headers: list[tuple[bytes, bytes]],
        told_id: str,
        *,
        if_none_match: str,
        with_body: bool,
    ) -> bytes:
        own_id = own_request_id(told_id)
        reply = missing_reply(
            answer,
            layer,
            cache_status(answer),
            if_none_match=if_none_match,
            request_id=own_id or self._new_request_id(),
        )
        told = self._cors.applied(reply.headers, _origin(headers))
        if own_id and reply.status != 404:
            told = (*told, ("x-request-id", own_id))
        if reply.status not in BODILESS:
            told = (*told, ("content-length", str(len(reply.body))))
        # The tail begins with the end of a line that `head_bytes` has ended already.
        head = head_bytes(reply.status, told)[:-2]
        return b"".join((head, self._tail, reply.body if with_body else b""))


def _origin(headers: list[tuple[bytes, bytes]]) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == b"origin"), "")


def _fields(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes] | None:
    """If-None-Match, Accept-Encoding and X-Request-Id of a plain question; None when it is not one."""
    if_none_match, encodings, told_id = b"", b"", b""
    for header, value in headers:
        # Repeated fields are one list, without its empty items: as `reply.joined` makes it.
        if header == b"if-none-match":
            if_none_match = (
                if_none_match + b", " + value if if_none_match and value else if_none_match or value
            )
        elif header == b"accept-encoding":
            encodings = encodings + b", " + value if encodings and value else encodings or value
        elif header == b"x-request-id":
            told_id = told_id or value
        elif header in NOT_PLAIN:
            return None
    return if_none_match, encodings, told_id
