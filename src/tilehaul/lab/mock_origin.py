"""The mock server's mind: from one request to one plan of an answer. No sockets here."""

import asyncio
import json
import logging
import math
import re
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from email.utils import formatdate
from typing import Final

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.lab.faults import BODY_KINDS, Faults, Judge, Kind, RetryAfter
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.script import Timeline
from tilehaul.lab.tile_bodies import TileBodies, TileBody
from tilehaul.lab.traffic import MockStats, ServiceQueue, Tally, TokenBucket, burst_left_s
from tilehaul.lab.wreckage import (
    Reply,
    absent_reply,
    error_reply,
    etag_matches,
    is_unmodified,
    text_reply,
    tile_reply,
    unchanged_reply,
    wait_header,
    wrecked_reply,
)

LOG: Final = logging.getLogger(__name__)
# Digits are bounded, so that no number is longer than the largest column of ZOOM_MAX.
TILE_PATH: Final = re.compile(rb"/([0-9]{1,2})/([0-9]{1,10})/([0-9]{1,10})(?:\.([a-z]{3,4}))?(?:\?.*)?\Z")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as the wire read it."""

    method: bytes
    target: bytes
    if_none_match: str = ""
    if_modified_since: str = ""
    keep_alive: bool = True
    old_http: bool = False

    @property
    def counted(self) -> bool:
        """False for the server's own addresses, which would otherwise count themselves."""
        return not self.target.startswith(b"/_/")


@dataclass(frozen=True, slots=True)
class Plan:
    """A reply, when to begin it, and how fast its body goes (0.0: as fast as it can)."""

    reply: Reply
    delay_s: float = 0.0
    bytes_per_s: float = 0.0


Answer = Callable[[Plan], None]


def tile_of(address: str | TileId) -> TileId:
    """An address like 3/4/2 as a TileId. Raises ConfigError."""
    if isinstance(address, TileId):
        return address
    found = TILE_PATH.match(f"/{address}".encode())
    if found is None:
        raise ConfigError(f"a tile address like 3/4/2 is wanted, not {address!r}")
    return TileId(int(found[1]), int(found[2]), int(found[3]))


class MockOrigin:
    """Decides answers. One loop owns it; `now_s` is monotonic, `wall_s` seconds since 1970."""

    def __init__(
        self,
        settings: MockSettings,
        bodies: TileBodies,
        maker: Executor,
        *,
        now_s: Callable[[], float],
        wall_s: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.bodies = bodies
        self.format = settings.format or ("jpg" if settings.tiles == "imagery" else "png")
        if self.format not in bodies.extensions:
            raise ConfigError(
                f"format: {settings.tiles} tiles are {', '.join(bodies.extensions)}, not {self.format!r}"
            )
        self.tally = Tally()
        self._now_s, self._wall_s = now_s, wall_s
        self._maker = maker
        self._making: dict[tuple[TileId, str], list[Callable[[TileBody | None], None]]] = {}
        self._date_at, self._date = -1, b""
        self._queue: ServiceQueue | None = None
        self.set_faults(settings.faults)
        self.reset()

    # What the outside may ask and change.

    def set_faults(self, faults: Faults) -> None:
        """Replace the faults; the script's steps are laid over the new ones. Raises ConfigError."""
        self._timeline = Timeline(self.settings.script, faults)
        self._part = -1

    def reset(self) -> None:
        """Counters, attempts, limits and the script's time begin again."""
        self.tally.reset(self._now_s())
        self._part = -1
        self._queue_peak = 0

    def stats(self) -> MockStats:
        waiting = self._queue.waiting_peak if self._part >= 0 and self._queue else 0
        return self.tally.freeze(self._now_s(), queue_peak=max(self._queue_peak, waiting))

    def date_line(self) -> bytes:
        """The Date header, made once a second."""
        second = int(self._wall_s() + self.settings.clock_skew_s)
        if second != self._date_at:
            self._date_at, self._date = second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._date

    # One request.

    def answer(self, ask: Ask, send: Answer) -> None:
        """Call `send` with the plan, now or from the loop once the tile is made; exactly once."""
        found = TILE_PATH.match(ask.target)
        if not ask.counted:
            send(Plan(self._control(ask)))
        elif found is None:
            send(Plan(text_reply(404, b"tiles are at /{z}/{x}/{y}.png\n")))
        elif ask.method not in (b"GET", b"HEAD"):
            send(Plan(text_reply(405, b"GET or HEAD\n")))
        else:
            extension = found[4].decode() if found[4] else self.format
            self._tile(ask, TileId(int(found[1]), int(found[2]), int(found[3])), extension, send)

    def sent(self, reply: Reply) -> None:
        """An answer to a counted request begins: count it, and the wait it announces."""
        self.tally.by_status[reply.status] += 1
        if reply.announced_s > 0:
            self.tally.announce(self._now_s(), reply.announced_s)

    def _control(self, ask: Ask) -> Reply:
        path = ask.target.partition(b"?")[0]
        if path == b"/_/health":
            return text_reply(200, b"ok\n")
        if path == b"/_/stats":
            return text_reply(200, json.dumps(asdict(self.stats())).encode(), "application/json")
        if path == b"/_/reset":
            if ask.method != b"POST":
                return text_reply(405, b"POST resets\n")
            self.reset()
            return text_reply(200, b"reset\n")
        return text_reply(404, b"there are /_/stats, /_/reset and /_/health\n")

    def _judge_now(self, now_s: float) -> Judge:
        """The faults of this moment; limits and queue begin afresh when the timeline moves on."""
        part = self._timeline.part(now_s - self.tally.begun_s)
        if part != self._part:
            if self._part >= 0 and self._queue is not None:
                self._queue_peak = max(self._queue_peak, self._queue.waiting_peak)
            faults = self._timeline.faults(part)
            self._part = part
            self._judge = Judge(faults, self.settings.seed)
            self._bucket = TokenBucket(faults.rate_limit, now_s) if faults.rate_limit else None
            self._queue = ServiceQueue(faults.capacity) if faults.capacity else None
        return self._judge

    def _error(self, status: int, fault: str, least_s: float = 0.0) -> Reply:
        rule = self._judge.faults.retry_after
        if status not in (429, 503) or (rule is None and status == 503):
            return error_reply(status, fault)
        rule = rule or RetryAfter("seconds", max(math.ceil(least_s), 1))
        return error_reply(status, fault, wait_header(rule, self._wall_s() + self.settings.clock_skew_s))

    def _push_back(self, faults: Faults, now_s: float) -> Reply | None:
        if faults.burst_429 is not None:
            left_s = burst_left_s(faults.burst_429, now_s - self.tally.begun_s)
            if left_s > 0:
                return self._error(429, "burst_429", left_s)
        if self._bucket is not None:
            wait_s = self._bucket.take(now_s)
            if wait_s > 0:
                return self._error(429, "rate_limit", wait_s)
        return None

    def _tile(self, ask: Ask, tile_id: TileId, extension: str, send: Answer) -> None:
        now_s = self._now_s()
        attempt = self.tally.arrive(tile_id, now_s)
        judge = self._judge_now(now_s)
        refusal = self._push_back(judge.faults, now_s)
        verdict = judge.decide(tile_id, attempt)
        delay_s = verdict.delay_s
        if refusal is not None:
            send(Plan(refusal, delay_s))
            return
        if self._queue is not None:
            served_s = self._queue.enter(now_s)
            if served_s is None:
                send(Plan(self._error(503, "queue_full"), delay_s))
                return
            delay_s += served_s
        if verdict.status:
            send(Plan(self._error(verdict.status, f"error_{verdict.status}"), delay_s))
            return
        outside = tile_id.z > ZOOM_MAX or max(tile_id.x, tile_id.y) >= 1 << tile_id.z
        absent = outside or extension not in self.bodies.extensions
        status = 404 if absent else self.settings.absence.status
        absent = absent or self.settings.absence.covers(tile_id, self.settings.seed)
        kind = verdict.kind
        if kind is not None and kind not in BODY_KINDS:
            send(Plan(wrecked_reply(kind, None, self.settings.max_age_s), delay_s))
        elif absent:
            send(Plan(absent_reply(status), delay_s))
        else:
            if ask.method == b"HEAD":
                kind = None
            self._body(
                ask, tile_id, extension, kind, lambda reply: send(Plan(reply, delay_s, verdict.bytes_per_s))
            )

    def _body(
        self, ask: Ask, tile_id: TileId, extension: str, kind: Kind | None, send: Callable[[Reply], None]
    ) -> None:
        if kind == "wrong_tile":
            tile_id = _neighbour(tile_id)
        max_age_s = self.settings.max_age_s

        def use(tile: TileBody | None) -> None:
            if tile is None:
                send(error_reply(500, "not_made"))
            elif kind is not None:
                send(wrecked_reply(kind, tile, max_age_s))
            elif self._has_it(ask, tile):
                send(unchanged_reply(tile, max_age_s))
            else:
                send(tile_reply(tile, max_age_s))

        known = self.bodies.find(tile_id, extension)
        if known is not None:
            use(known)
        elif self.bodies.quick:
            made = self.bodies.make(tile_id, extension)
            self.bodies.keep(tile_id, extension, made)
            use(made)
        else:
            self._make(tile_id, extension, use)

    def _has_it(self, ask: Ask, tile: TileBody) -> bool:
        """The date is looked at only where there is no tag (RFC 9110, 13.2.2)."""
        if ask.if_none_match:
            return bool(tile.etag) and etag_matches(tile.etag, ask.if_none_match)
        return bool(ask.if_modified_since) and is_unmodified(ask.if_modified_since, self._wall_s())

    def _make(self, tile_id: TileId, extension: str, use: Callable[[TileBody | None], None]) -> None:
        """Draw or cut on another thread, once for all who ask meanwhile."""
        key = (tile_id, extension)
        waiting = self._making.get(key)
        if waiting is not None:
            waiting.append(use)
            return
        self._making[key] = [use]
        future = asyncio.get_running_loop().run_in_executor(self._maker, self.bodies.make, tile_id, extension)
        future.add_done_callback(lambda done: self._made(key, done))

    def _made(self, key: tuple[TileId, str], done: "asyncio.Future[TileBody]") -> None:
        users = self._making.pop(key)
        if done.cancelled():
            return
        failure = done.exception()
        made = None if failure is not None else done.result()
        if made is not None:
            self.bodies.keep(*key, made)
        else:
            LOG.error("tile %s could not be made", key[0], exc_info=failure)
        for use in users:
            use(made)


def _neighbour(tile_id: TileId) -> TileId:
    """Another tile of the same zoom; at zoom 0 a tile of zoom 1."""
    if tile_id.z == 0:
        return TileId(1, 0, 0)
    return TileId(tile_id.z, tile_id.x ^ 1, tile_id.y)
