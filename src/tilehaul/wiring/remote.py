"""A PMTiles file on a server or in a bucket becomes an archive, read by ranges."""

import asyncio
import os
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack

from tilehaul.codec.safe_url import redact
from tilehaul.config.buckets import bucket_place
from tilehaul.config.locations import Location
from tilehaul.config.sending import Sending
from tilehaul.net.clock import SystemClock
from tilehaul.net.gauges import Gauges
from tilehaul.net.lane_pool import LanePool
from tilehaul.net.laned import LanedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import TellLane
from tilehaul.ports.wire import Request, Response, Sender, Signing
from tilehaul.stores.http_ranges import HttpRangeReader
from tilehaul.stores.pmtiles_remote import RemotePmtiles
from tilehaul.wiring.senders import allowed_hosts, open_laned, retry_rule


class RemoteArchive(RemotePmtiles):
    """Opens its connections when it is first read, closes them with itself."""

    def __init__(self, reader: HttpRangeReader, sender: "_LateSender") -> None:
        super().__init__(reader)
        self._late = sender

    def turn_away(self) -> None:
        """End all waiting for leave to send: BusyError for who waits, and whoever comes."""
        self._late.turn_away()

    async def close(self) -> None:
        await super().close()
        await self._late.aclose()


def open_remote(
    place: Location,
    sending: Sending,
    *,
    tally: Tally | None = None,
    tell: TellLane | None = None,
    gauges: Gauges | None = None,
    pool: LanePool | None = None,
    pause: bool = False,
) -> RemoteArchive:
    """The archive there; nothing is sent before it is first asked.

    Args:
        place: Of kind `remote`.
        sending: Patience, limits, headers (not to a bucket) and roots.
        tally, tell, gauges, pool, pause: As for `open_laned`.

    Raises PlanError, ConfigError: see `bucket_place`.
    """
    url, signing = remote_url(place, os.environ)
    late = _LateSender(url, sending, signing, tally or Tally(), tell, gauges, pool, pause=pause)
    headers = () if signing is not None else sending.headers
    lane_class = "s3-read" if is_bucket(place) else "tile"
    return RemoteArchive(
        HttpRangeReader(
            url,
            late,
            shown=redact(place.text),
            clock=SystemClock(),
            lane_class=lane_class,
            headers=headers,
        ),
        late,
    )


def is_bucket(place: Location) -> bool:
    return place.text.lower().startswith(("s3://", "r2://"))


def remote_url(place: Location, environ: Mapping[str, str]) -> tuple[str, Signing | None]:
    """The file's address, and how requests for it are signed. Raises PlanError, ConfigError."""
    if not is_bucket(place):
        return place.text, None
    where = bucket_place(place.text, environ)
    return where.url.rstrip("/"), where.signing


def remote_urls(place: Location) -> tuple[str, ...]:
    """The address, for those who judge hosts; a bucket is its owner's, and is not judged."""
    return () if is_bucket(place) else (place.text,)


class _LateSender:
    """A sender that is opened with its first request."""

    def __init__(
        self,
        url: str,
        sending: Sending,
        signing: Signing | None,
        tally: Tally,
        tell: TellLane | None,
        gauges: Gauges | None,
        pool: LanePool | None,
        *,
        pause: bool,
    ) -> None:
        self._url = url
        self._sending = sending
        self._signing = signing
        self._tally = tally
        self._tell = tell
        self._gauges = gauges
        self._pool = pool
        self._pause = pause
        self._stack = AsyncExitStack()
        self._sender: Sender | None = None
        self._laned: LanedSender | None = None
        self._opening = asyncio.Lock()

    async def send(self, request: Request) -> Response:
        async with self._opening:
            if self._sender is None:
                self._sender = await self._opened()
        return await self._sender.send(request)

    async def _opened(self) -> Sender:
        allowed = allowed_hosts(self._sending, (self._url,))
        laned = await self._stack.enter_async_context(
            open_laned(
                self._sending,
                allowed,
                tally=self._tally,
                tell=self._tell,
                signing=self._signing,
                gauges=self._gauges,
                pool=self._pool,
                pause=self._pause,
            )
        )
        self._laned = laned
        return RetriedSender(laned, retry_rule(self._sending), SystemClock(), random.random, self._tally)

    def turn_away(self) -> None:
        if self._laned is not None:
            self._laned.turn_away()

    async def aclose(self) -> None:
        await self._stack.aclose()
