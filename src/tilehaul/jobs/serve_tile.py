"""Answer one request for a tile: a plain value in, a plain value out."""

import json
import zlib
from dataclasses import dataclass
from math import floor

import xxhash

from tilehaul.codec.sniff import (
    AVIF,
    GIF,
    GZIP_MAGIC,
    JPEG,
    PNG,
    VECTOR_TILE,
    WEBP,
    extension_of,
    media_type_of,
    plain_media_type,
)
from tilehaul.errors import DataError, PlanError, RefusedError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.blank import TRANSPARENT_PNG
from tilehaul.jobs.layer import Layer
from tilehaul.policy.freshness import TILE_FRESH_S
from tilehaul.ports.tile import NoTile, Tile

Headers = tuple[tuple[str, str], ...]

# Extensions an address may end in, and the kind of tile each asks for.
EXTENSION_KINDS = {
    "avif": "picture",
    "gif": "picture",
    "jpeg": "picture",
    "jpg": "picture",
    "png": "picture",
    "webp": "picture",
    "mvt": "vector",
    "pbf": "vector",
}

# What is sent as a tile. Anything else (HTML, SVG, XML) could run in the service's own origin.
SENT_KINDS = {
    AVIF: "picture",
    GIF: "picture",
    JPEG: "picture",
    PNG: "picture",
    WEBP: "picture",
    VECTOR_TILE: "vector",
}

# Places that are a cache of ours; everything else was forwarded (RFC 9211, section 2.2).
CACHE_PLACES = frozenset({"memory", "disk"})
# `max-age` of a tile past its freshness, unless its own is shorter: clients soon ask again. No Age goes
# with it: a browser takes that off max-age, so the answer would be too old to keep before it came.
STALE_MAX_AGE_S = 10

# A vector tile above this is not one: tippecanoe's own limit is 0.5 MB, planetiler warns at 1 MB.
UNZIPPED_BYTES_MAX = 32 * 1024 * 1024

# On every answer to a public GET: maps on other sites may read it and its headers; no guessing of types.
PUBLIC_HEADERS: Headers = (
    ("access-control-allow-origin", "*"),
    (
        "access-control-expose-headers",
        "Cache-Status, Content-Length, ETag, X-Request-Id, X-Tile-Format, X-Tile-Source",
    ),
    ("x-content-type-options", "nosniff"),
)

# Should a tile be something else after all, and be opened as a page: no script, no origin, no requests.
TILE_HEADERS: Headers = (*PUBLIC_HEADERS, ("content-security-policy", "sandbox; default-src 'none'"))


@dataclass(frozen=True, slots=True)
class TileRequest:
    """One question. `ext` lower case without a dot, `if_none_match` the header as it came ("" if none)."""

    tile_id: TileId
    ext: str
    if_none_match: str = ""
    accepts_gzip: bool = True
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Header names are lower case; `content-length` is left to the door."""

    status: int
    headers: Headers
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Rendition:
    """A tile's bytes as they are sent, and the headers that say what they are.

    `etag` is quoted. `entity` headers go with the body only, `shared` ones with a 304 too.
    """

    body: bytes
    etag: str
    kind: str
    gzipped: bool
    entity: Headers
    shared: Headers


async def serve_tile(request: TileRequest, layer: Layer) -> Reply:
    """The layer's answer: 200, 304, or what the layer says of missing tiles.

    Counts hits and misses in `layer.stats` (an error is a miss).

    Raises:
        PlanError: The extension is unknown, or asks for a picture where the layer has vector tiles
            (or the other way round).
        DataError: What the source has is nothing to send as a tile (see `render`).
        TransferError, DataError, StorageError, BusyError: As the source raised them.
    """
    if request.ext not in EXTENSION_KINDS:
        raise PlanError(f"no such tile format: ask for one of {', '.join(EXTENSION_KINDS)}")
    if layer.formats and media_type_of(request.ext) not in layer.formats:
        allowed = ", ".join(sorted(map(extension_of, layer.formats)))
        raise PlanError(f"layer {layer.name!r} is not served in this format: ask for one of {allowed}")
    try:
        answer = await _ask(layer, request.tile_id)
    except BaseException:
        layer.stats.misses += 1
        raise
    return reply_of(request, layer, answer)


def reply_of(request: TileRequest, layer: Layer, answer: Tile | NoTile) -> Reply:
    """What `serve_tile` makes of an answer; counts it, raises what that does. `ext` is a known one."""
    if is_hit(answer):
        layer.stats.hits += 1
    else:
        layer.stats.misses += 1
    if isinstance(answer, Tile) and answer.stale:
        layer.stats.stale += 1
    status = cache_status(answer)
    if isinstance(answer, NoTile):
        return missing_reply(
            answer, layer, status, if_none_match=request.if_none_match, request_id=request.request_id
        )
    rendition = render(answer, layer, accepts_gzip=request.accepts_gzip)
    if rendition.kind != EXTENSION_KINDS[request.ext]:
        ending = extension_of(answer.media_type)
        raise PlanError(f"layer {layer.name!r} has {rendition.kind} tiles: ask for .{ending}")
    shared = (*rendition.shared, *_age(answer), ("cache-status", status))
    if request.if_none_match and etag_matches(request.if_none_match, rendition.etag):
        return Reply(304, shared)
    return Reply(200, (*rendition.entity, *shared), rendition.body)


def render(tile: Tile, layer: Layer, *, accepts_gzip: bool = True) -> Rendition:
    """A tile's bytes and headers, all but `cache-status`.

    A vector tile kept gzipped is sent so to who accepts it and unzipped to who does not.

    Raises:
        DataError: The tile is none of `SENT_KINDS`, or a gzipped one does not unzip.
        RefusedError: It unzips to more than `UNZIPPED_BYTES_MAX`.
    """
    body, media_type = tile.body, plain_media_type(tile.media_type)
    kind = SENT_KINDS.get(media_type)
    if kind is None:
        raise DataError("the stored tile is neither a picture nor a vector tile", cause="mistyped")
    zipped = kind == "vector" and body.startswith(GZIP_MAGIC)
    if zipped and not accepts_gzip:
        body = _unzipped(body)
    # Both renditions say so, or a shared cache would give the zipped one to everybody.
    coding: Headers = (("vary", "Accept-Encoding"),) if zipped else ()
    gzipped = zipped and accepts_gzip
    etag = etag_of(body)
    return Rendition(
        body=body,
        etag=etag,
        kind=kind,
        gzipped=gzipped,
        entity=(
            ("content-type", media_type),
            *((("content-encoding", "gzip"),) if gzipped else ()),
        ),
        shared=(
            ("etag", etag),
            ("cache-control", _cache_control(tile, layer)),
            ("x-tile-source", tile.place),
            ("x-tile-format", extension_of(media_type)),
            *coding,
            *TILE_HEADERS,
        ),
    )


def missing_reply(answer: NoTile, layer: Layer, status: str, *, if_none_match: str, request_id: str) -> Reply:
    """What the layer says of a missing tile: 404, 204, or 200 with a transparent picture.

    Args:
        status: The `Cache-Status` to tell.
    """
    shared: Headers = (
        ("cache-control", f"{layer.cache_scope}, max-age={layer.missing_max_age_s}"),
        ("cache-status", status),
        ("x-tile-source", answer.place),
        *PUBLIC_HEADERS,
    )
    if layer.missing == 204:
        return Reply(204, shared)
    if layer.missing == "transparent":
        etag = etag_of(TRANSPARENT_PNG)
        shared = (("etag", etag), ("x-tile-format", "png"), *shared)
        if if_none_match and etag_matches(if_none_match, etag):
            return Reply(304, shared)
        return Reply(200, (("content-type", "image/png"), *shared), TRANSPARENT_PNG)
    body = error_body("there is no such tile", answer.cause, request_id)
    named = ("x-request-id", request_id)
    return Reply(404, (("content-type", "application/json"), named, *shared), body)


def etag_of(body: bytes) -> str:
    """A strong entity tag: 128-bit XXH3 of the bytes, quoted."""
    return f'"{xxhash.xxh3_128_hexdigest(body)}"'


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header names this entity tag.

    Weak comparison (RFC 9110, sections 8.8.3.2 and 13.1.2): `W/` is left aside. Lists and `*` count;
    a tag without its quotes, as some clients send it, counts too.
    """
    if if_none_match.strip() == "*":
        return True
    bare = etag.strip('"')
    for item in if_none_match.split(","):
        named = item.strip()
        if named.startswith(("W/", "w/")):
            named = named[2:]
        if named.strip('"') == bare:
            return True
    return False


def is_hit(answer: Tile | NoTile) -> bool:
    """Whether the answer came from a cache of ours, without waiting for the origin."""
    return answer.place in CACHE_PLACES and not (isinstance(answer, Tile) and answer.stale == "asked")


def cache_status(answer: Tile | NoTile) -> str:
    """The `Cache-Status` of an answer (RFC 9211), with `ttl` in whole seconds.

    A stale answer has a negative one. It is a hit if the origin was not asked (section 2.1), else forwarded.
    """
    freshness = answer.freshness
    if is_hit(answer):
        told = "tilehaul; hit"
    elif answer.place in CACHE_PLACES:
        told = "tilehaul; fwd=stale"
    elif freshness is None or freshness.kept_s <= 0:
        return "tilehaul; fwd=miss"
    else:
        told = "tilehaul; fwd=miss; stored"
    return told if freshness is None else f"{told}; ttl={floor(freshness.left_s)}"


def _cache_control(tile: Tile, layer: Layer) -> str:
    """How long clients may keep a tile: as long as the layer says, else its freshness."""
    freshness = tile.freshness
    if layer.max_age_s is not None:
        max_age_s = layer.max_age_s
    elif freshness is None:
        max_age_s = floor(TILE_FRESH_S)
    elif freshness.kept_s <= 0:
        return "no-store"
    else:
        max_age_s = floor(freshness.fresh_s)
    shown_s = min(max_age_s, STALE_MAX_AGE_S) if tile.stale else max_age_s
    return f"{layer.cache_scope}, max-age={shown_s}"


def _age(tile: Tile) -> Headers:
    """`Age` (RFC 9111, 5.1) of a tile that was kept, here or by another cache on its way."""
    freshness = tile.freshness
    if tile.stale or freshness is None or not (is_hit(tile) or freshness.age_s >= 1):
        return ()
    return (("age", str(floor(freshness.age_s))),)


def error_body(message: str, cause: str, request_id: str) -> bytes:
    """The body of every error reply, JSON in UTF-8."""
    told = {"success": False, "error": message, "cause": cause, "request_id": request_id}
    return json.dumps(told).encode()


async def _ask(layer: Layer, tile_id: TileId) -> Tile | NoTile:
    info = layer.source.info
    if not info.zoom_min <= tile_id.z <= info.zoom_max:
        # Not asked, so that addresses nobody has cannot push real tiles out of the cache.
        return NoTile(tile_id, cause="out_of_range", place="layer")
    return await layer.source.get(tile_id)


def _unzipped(body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(body, UNZIPPED_BYTES_MAX + 1)
    except zlib.error as error:
        raise DataError(f"a stored vector tile does not unzip: {error}", cause="bad_coding") from error
    if len(plain) > UNZIPPED_BYTES_MAX:
        raise RefusedError(f"a vector tile unzips to more than {UNZIPPED_BYTES_MAX} bytes", cause="too_large")
    if not unzip.eof:
        raise DataError("a stored vector tile ends too early", cause="truncated")
    return plain
