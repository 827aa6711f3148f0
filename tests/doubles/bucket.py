"""A wire that leads straight into a LabBucket: no socket, the same answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from doubles.clock import VirtualClock
from tilehaul.lab.bucket import LabBucket
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.tally import Tally
from tilehaul.ports.wire import Request, Response, Sender
from tilehaul.stores.bucket import BucketStore

URL = "http://bucket.test/tiles/prefix/"


@dataclass
class BucketWire:
    """As `net.wire.Wire`; every request is kept in `sent`."""

    bucket: LabBucket

    def __post_init__(self) -> None:
        self.sent: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        parts = urlsplit(request.url)
        asked = [(name.lower().encode(), value.encode()) for name, value in request.headers]
        scope = {
            "type": "http",
            "method": request.method,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": asked,
        }
        told: dict[str, object] = {"body": b""}

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": request.body}

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                told["status"], told["headers"] = message["status"], message["headers"]
            else:
                told["body"] += message.get("body", b"")  # type: ignore[operator]

        await self.bucket.app(scope, receive, send)  # type: ignore[arg-type]
        headers = {name.decode(): value.decode() for name, value in told["headers"]}  # type: ignore[attr-defined]
        return Response(request.url, told["status"], headers, told["body"])  # type: ignore[arg-type]


def bucket_store(bucket: LabBucket, journal: Path) -> BucketStore:
    """The store there, as a new process would find it."""

    @asynccontextmanager
    async def open_sender() -> AsyncIterator[Sender]:
        yield VerifiedSender(BucketWire(bucket), VirtualClock(), Tally())

    return BucketStore(
        URL, shown="s3://tiles/prefix", open_sender=open_sender, journal=journal, durability="fast"
    )
