"""A small bucket on loopback for tests and trials: the part of the S3 API that tilehaul uses, and R2's limit.

Signatures are not checked (SeaweedFS does that in the real-server tests); conditions, digests and the spacing
of writes are.
"""

import asyncio
import socket
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import md5
from types import TracebackType
from typing import Self
from urllib.parse import quote
from xml.sax.saxutils import escape

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_KEPT_HEADERS = ("content-type", "cache-control", "content-encoding")


@dataclass(frozen=True, slots=True)
class BucketObject:
    """One object: what was written, and when."""

    body: bytes
    headers: dict[str, str]
    etag: str


@dataclass(slots=True)
class BucketCounts:
    """What came: requests by method, those refused as too soon, and the times of each key's writes."""

    by_method: Counter[str] = field(default_factory=Counter)
    too_soon: int = 0
    writes_s: dict[str, list[float]] = field(default_factory=dict)


class LabBucket:
    """Objects by key, path style: `/{bucket}/{key}`. One loop owns it.

    Args:
        spacing_s: A second write to one key within this many seconds is answered 429 (R2: 1 s). 0: never.
        conditional: False: If-None-Match is answered 501, as servers do that do not know it.
        now_s: Monotonic time.
    """

    def __init__(
        self,
        *,
        spacing_s: float = 0.0,
        conditional: bool = True,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.objects: dict[str, BucketObject] = {}
        self.counts = BucketCounts()
        # Statuses answered to the next writes instead of writing; with `lost`, after writing.
        self.faults: deque[int] = deque()
        self.lost: deque[int] = deque()
        self.keys_a_page = 1000
        self._spacing_s = spacing_s
        self._conditional = conditional
        self._now_s = now_s
        self.app = Starlette(
            routes=[
                Route("/{bucket}", self._bucket, methods=["GET"]),
                Route("/{bucket}/{key:path}", self._object, methods=["GET", "HEAD", "PUT", "DELETE"]),
            ]
        )

    async def _object(self, request: Request) -> Response:
        self.counts.by_method[request.method] += 1
        key = request.path_params["key"]
        if request.method == "PUT":
            return self._put(key, request, await request.body())
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return Response(status_code=204)
        kept = self.objects.get(key)
        if kept is None:
            return _error(404, "NoSuchKey")
        return Response(
            kept.body,
            headers={**kept.headers, "etag": kept.etag, "last-modified": formatdate(0, usegmt=True)},
        )

    def _put(self, key: str, request: Request, body: bytes) -> Response:
        now_s = self._now_s()
        writes_s = self.counts.writes_s.setdefault(key, [])
        early = bool(writes_s) and now_s - writes_s[-1] < self._spacing_s
        writes_s.append(now_s)
        if early:
            self.counts.too_soon += 1
            return _error(429, "TooManyRequests")
        if self.faults:
            return _error(self.faults.popleft(), "SlowDown")
        digest = md5(body, usedforsecurity=False)
        told = request.headers.get("content-md5")
        if told is not None and told != b64encode(digest.digest()).decode():
            return _error(400, "BadDigest")
        if request.headers.get("if-none-match"):
            if not self._conditional:
                return _error(501, "NotImplemented")
            if key in self.objects:
                return _error(412, "PreconditionFailed")
        headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
        self.objects[key] = BucketObject(body, headers, f'"{digest.hexdigest()}"')
        if self.lost:
            return _error(self.lost.popleft(), "InternalError")
        return Response(headers={"etag": self.objects[key].etag})

    async def _bucket(self, request: Request) -> Response:
        self.counts.by_method["LIST"] += 1
        query = request.query_params
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        found = (key for key in self.objects if key.startswith(prefix))
        delimiter = query.get("delimiter", "")
        names = {_up_to(key, len(prefix), delimiter) for key in found}
        keys = sorted(name for name in names if name > after)
        page = keys[: min(self.keys_a_page, int(query.get("max-keys", "1000")))]
        contents = "".join(
            f"<Contents><Key>{escape(quote(key))}</Key><Size>{len(self.objects[key].body)}</Size></Contents>"
            if key in self.objects
            else f"<CommonPrefixes><Prefix>{escape(quote(key))}</Prefix></CommonPrefixes>"
            for key in page
        )
        more = len(keys) > len(page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return Response(
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>",
            media_type="application/xml",
        )


def _up_to(key: str, start: int, delimiter: str) -> str:
    """The key itself, or its part up to the first delimiter behind `start`, which is included."""
    at = key.find(delimiter, start) if delimiter else -1
    return key if at < 0 else key[: at + 1]


def _error(status: int, code: str) -> Response:
    return Response(f"<Error><Code>{code}</Code></Error>", status_code=status, media_type="application/xml")


class BucketServer:
    """Serves a LabBucket on a free loopback port: `async with BucketServer(bucket) as server: server.url`."""

    def __init__(self, bucket: LabBucket) -> None:
        self.bucket = bucket
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(bucket.app, log_level="critical", lifespan="off", access_log=False)
        self._server = uvicorn.Server(config)

    async def __aenter__(self) -> Self:
        # `serve` would take the process's signals.
        self._serving = asyncio.create_task(self._server._serve(sockets=[self._socket]))  # noqa: SLF001
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._serving
