"""Answer a tile that is on its way already, without a task for each who asks.

A thousand clients on one cold tile cost the service a thousand tasks, each through the framework to the same
fetch. `server/protocol.py` asks here for each request that is next to go to the application: if its tile is
being fetched, the request waits in a list, and all are answered in the turn in which the fetch lands.
Everything that is not sure goes the usual way.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tilehaul.codec.sniff import media_type_of
from tilehaul.errors import BusyError, PlanError, TilehaulError
from tilehaul.jobs.batch import late_error
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import EXTENSION_KINDS, Reply, TileRequest, reply_of
from tilehaul.ports.correlation import REQUEST_ID
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.server.cors import Cors
from tilehaul.server.early_hits import NOT_PLAIN, PREFIX, HotCache
from tilehaul.server.reply import accepts_gzip, defect_reply, error_reply, field_of, told_request_id
from tilehaul.server.tile_routes import TileRoutes, count_failure, parse_address

log = logging.getLogger(__name__)

Landed = Callable[["asyncio.Task[Tile | NoTile]"], None]


@dataclass(frozen=True, slots=True)
class Boarded:
    """A request that waits for a fetch. `leave` gives the wait up: once, and only before it landed."""

    layer: Layer
    asked: TileRequest
    origin: str
    leave: Callable[[], None]


class Boarding:
    """Finds the fetch that a raw request may wait for, and makes the answer of what it brought.

    Args:
        tiles: Where tile requests are counted, whichever way they are answered.
        cache: A tile it holds, fresh or past it, is nothing to wait for.
        new_request_id: Names a request that brought no usable X-Request-Id.
        cors: Which pages may read the answers.
    """

    def __init__(
        self, tiles: TileRoutes, cache: HotCache, new_request_id: Callable[[], str], cors: Cors
    ) -> None:
        self._tiles = tiles
        self._cache = cache
        self._new_request_id = new_request_id
        self._cors = cors
        self.deadline_s = tiles.deadline_s

    def board(self, scope: Any, landed: Landed) -> Boarded | None:
        """Let a request wait; None: it must go the usual way. `landed` is called unless it leaves before.

        Args:
            scope: ASGI's, of a request whose head is complete.
        """
        raw_path: bytes = scope["raw_path"]
        parts = raw_path[len(PREFIX) :].decode("latin-1").split("/")
        tiles = self._tiles
        if len(parts) != 4 or not raw_path.startswith(PREFIX):
            return None
        name, z, x, file = parts
        layer = tiles.callers.layers.get(name)
        if layer is None or layer.flights is None or not layer.flights.in_flight:
            return None
        if not tiles.room.has_room(name):
            return None
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if not tiles.callers.may_have(layer, headers, scope["query_string"]):
            return None
        if any(header in NOT_PLAIN for header, _ in headers):
            return None
        try:
            tile_id, ext = parse_address(z, x, file)
        except PlanError:
            return None
        if ext not in EXTENSION_KINDS or (layer.formats and media_type_of(ext) not in layer.formats):
            return None
        if self._cache.holds(layer.name, tile_id):
            return None
        leave = layer.flights.board(tile_id, landed)
        if leave is None:
            return None
        self._cache.miss()
        tiles.room.enter(name)
        asked = TileRequest(
            tile_id,
            ext,
            if_none_match=field_of(headers, b"if-none-match"),
            accepts_gzip=accepts_gzip(field_of(headers, b"accept-encoding")),
            request_id=told_request_id(headers) or self._new_request_id(),
        )
        return Boarded(layer, asked, field_of(headers, b"origin"), leave)

    def left(self, boarded: Boarded) -> None:
        """The client has gone away."""
        self._tiles.room.leave(boarded.layer.name)
        boarded.leave()

    def late(self, boarded: Boarded) -> Reply:
        """The answer to who has waited `deadline_s`."""
        boarded.leave()
        return self._answered(boarded, self._too_late)

    def landed(self, boarded: Boarded, fetch: "asyncio.Task[Tile | NoTile]") -> Reply:
        """The answer to who has waited for `fetch`, which has ended. Nothing is raised."""

        def brought() -> Tile | NoTile:
            if fetch.cancelled():
                raise BusyError("the fetch of this tile was given up; ask again")
            return fetch.result()

        return self._answered(boarded, brought)

    def _too_late(self) -> Tile | NoTile:
        raise late_error(self.deadline_s)

    def _answered(self, boarded: Boarded, brought: Callable[[], Tile | NoTile]) -> Reply:
        layer, asked = boarded.layer, boarded.asked
        self._tiles.room.leave(layer.name)
        named = REQUEST_ID.set(asked.request_id)
        try:
            try:
                answer = brought()
            except BaseException:
                layer.stats.misses += 1
                raise
            reply = reply_of(asked, layer, answer)
        except TilehaulError as error:
            count_failure(layer, asked.tile_id, error)
            reply = error_reply(error, asked.request_id)
        except Exception:
            log.exception("a request failed")
            reply = defect_reply(asked.request_id)
        finally:
            REQUEST_ID.reset(named)
        told = self._cors.applied(reply.headers, boarded.origin)
        if not any(name == "x-request-id" for name, _ in told):
            told = (*told, ("x-request-id", asked.request_id))
        return replace(reply, headers=told)
