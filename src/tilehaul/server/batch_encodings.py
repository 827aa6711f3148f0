"""A batch of tiles as one body: JSON, or streamed as multipart or tar before the last tile is in."""

import base64
import json
import secrets
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tilehaul.jobs.batch import BatchItem
from tilehaul.jobs.serve_tile import Reply
from tilehaul.server.statuses import cause_of, status_of

JSON = "application/json"
MULTIPART = "multipart/mixed"
TAR = "application/x-tar"

Stats = Callable[[], Awaitable[dict[str, Any]]]
Items = AsyncIterator[BatchItem]


def encoding_of(accept: str) -> str:
    """The first of MULTIPART and TAR that an Accept header names; JSON without any.

    Weights are not looked at: who wants one of these says so.
    """
    for item in accept.split(","):
        media_type = item.partition(";")[0].strip().lower()
        if media_type in (MULTIPART, TAR, JSON):
            return media_type
    return JSON


async def batch_json(layer: str, items: Items, stats: Stats) -> dict[str, Any]:
    """The whole answer: `tiles` in base64 and `errors` by `layer/address`, as asked."""
    tiles: dict[str, str] = {}
    errors: dict[str, dict[str, Any]] = {}
    async for item in items:
        failed = failure_of(item)
        if failed is not None:
            errors[f"{layer}/{item.address}"] = failed
        elif item.reply is not None:
            tiles[f"{layer}/{item.address}"] = base64.b64encode(item.reply.body).decode("ascii")
    return {
        "layer": layer,
        "count": len(tiles),
        "tiles": tiles,
        "errors": errors,
        "cache_stats": await stats(),
    }


def failure_of(item: BatchItem) -> dict[str, Any] | None:
    """`status` and `cause` of an address that got no tile; None when it got one."""
    if item.error is not None:
        return {"status": status_of(item.error), "cause": cause_of(item.error)}
    reply = item.reply
    if reply is None or reply.status != 200:
        status = 500 if reply is None else reply.status
        return {"status": status, "cause": "absent" if status in (204, 404) else "internal"}
    return None


def new_boundary() -> str:
    """What parts a multipart body; random, so that no tile holds it."""
    return f"tilehaul-{secrets.token_hex(16)}"


async def multipart(layer: str, items: Items, stats: Stats, boundary: str) -> AsyncIterator[bytes]:
    """A part for each tile as it comes, with `Content-Location` and the tile's own headers; the last part is
    JSON: `count`, `errors`, `cache_stats`.
    """
    count, errors = 0, {}
    async for item in items:
        failed = failure_of(item)
        if failed is not None:
            errors[f"{layer}/{item.address}"] = failed
            continue
        assert item.reply is not None  # noqa: S101 - or it had failed
        count += 1
        yield _part(boundary, f"/api/tiles/{layer}/{item.address}", item.reply)
    told = {"layer": layer, "count": count, "errors": errors, "cache_stats": await stats()}
    summary = Reply(200, (("content-type", JSON),), json.dumps(told).encode())
    yield _part(boundary, f"/api/tiles/{layer}/batch", summary)
    yield f"--{boundary}--\r\n".encode()


def _part(boundary: str, location: str, reply: Reply) -> bytes:
    kept = [(name, value) for name, value in reply.headers if name in _PART_HEADERS]
    lines = [("content-location", location), *kept, ("content-length", str(len(reply.body)))]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"--{boundary}\r\n{head}\r\n".encode("latin-1") + reply.body + b"\r\n"


_PART_HEADERS = frozenset(
    {"content-type", "etag", "age", "cache-control", "cache-status", "x-tile-source", "x-tile-format"}
)


async def tar(layer: str, items: Items, stats: Stats) -> AsyncIterator[bytes]:
    """A file for each tile as it comes, named `layer/z/x/y.ext`; the last one is `batch.json`, as the last
    part of `multipart`.
    """
    count, errors = 0, {}
    async for item in items:
        failed = failure_of(item)
        if failed is not None:
            errors[f"{layer}/{item.address}"] = failed
            continue
        assert item.reply is not None  # noqa: S101 - or it had failed
        count += 1
        yield _tar_file(f"{layer}/{item.address}", item.reply.body)
    told = {"layer": layer, "count": count, "errors": errors, "cache_stats": await stats()}
    yield _tar_file("batch.json", json.dumps(told).encode())
    # Two empty blocks end an archive.
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tar_file(name: str, body: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(body)
    info.mode = 0o644
    padding = -len(body) % tarfile.BLOCKSIZE
    return info.tobuf(tarfile.PAX_FORMAT) + body + bytes(padding)
