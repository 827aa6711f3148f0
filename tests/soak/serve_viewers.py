"""People and programs before the service: they pan, zoom, ask for batches, leave in the middle, and purge."""

import asyncio
import base64
import contextlib
import json
import random
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.viewers import Viewers

from soak.serve_judge import Verdicts

# Longer than the service's own deadline for a tile.
ANSWER_S_MAX = 45.0
# A viewer rests this long between two requests, on average.
REST_S = 0.03
ETAGS_MAX = 5_000
# Of a viewer's doings; the rest are single tiles.
SHARE_BATCH, SHARE_LEAVE, SHARE_FIGURES = 0.04, 0.05, 0.01
BATCH_MAX = 20
PURGE_EVERY_S = 20.0
PURGES = ("", "?zooms=12", "?bbox=-180,0,180,85", "?bbox=-180,-85,0,0&zooms=0-11")


@dataclass(slots=True)
class Wire:
    """One connection, opened when it is needed."""

    base: str
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, *lines: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body. Raises OSError, EOFError, TimeoutError."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self.send(path, *lines, method=method)
                return await self._answer()
        except BaseException:
            self.close()
            raise

    async def send(self, path: str, *lines: str, method: str = "GET") -> None:
        address = urlsplit(self.base)
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection(address.hostname, address.port)
        fields = "".join(f"{line}\r\n" for line in lines)
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\n{fields}\r\n".encode())
        await self.writer.drain()

    async def _answer(self) -> tuple[int, dict[str, str], bytes]:
        assert self.reader is not None
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        status = int(head[0].split()[1])
        length = 0 if status in (204, 304) else int(headers["content-length"])
        body = await self.reader.readexactly(length)
        if headers.get("connection") == "close":
            self.close()
        return status, headers, body

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


class Crowd:
    """All who ask. `begun_s` is the origin's zero on the monotonic clock."""

    def __init__(
        self, base: str, layers: list[str], verdicts: Verdicts, *, seed: int, begun_s: float
    ) -> None:
        self._base = base
        self._layers = layers
        self._verdicts = verdicts
        self._luck = random.Random(seed)
        self._walk: Iterator[tuple[int, int, int]] = iter(Viewers(seed))
        self._begun_s = begun_s
        self._known: OrderedDict[str, str] = OrderedDict()
        self.stopped = False
        self.left = self.batches = self.purges = 0

    async def view(self) -> None:
        """One viewer, until `stopped`. Whatever goes wrong is a verdict, and the viewer goes on."""
        wire, luck = Wire(self._base), self._luck
        while not self.stopped:
            await asyncio.sleep(luck.expovariate(1.0 / REST_S))
            what, layer = luck.random(), luck.choice(self._layers)
            try:
                if what < SHARE_BATCH:
                    await self._batch(wire, layer)
                elif what < SHARE_BATCH + SHARE_LEAVE:
                    await self._leave(layer)
                elif what < SHARE_BATCH + SHARE_LEAVE + SHARE_FIGURES:
                    await self._figures(wire, layer)
                else:
                    await self._tile(wire, layer)
            except (OSError, EOFError, TimeoutError) as error:
                self._verdicts.lost(type(error).__name__)
        wire.close()

    async def purge(self) -> None:
        """Empty caches, or parts of them, now and then."""
        wire = Wire(self._base)
        while not self.stopped:
            await asyncio.sleep(PURGE_EVERY_S * self._luck.uniform(0.5, 1.5))
            layer, part = self._luck.choice(self._layers), self._luck.choice(PURGES)
            try:
                status, _, _ = await wire.ask(f"/api/tiles/{layer}/cache{part}", method="DELETE")
            except (OSError, EOFError, TimeoutError) as error:
                self._verdicts.lost(type(error).__name__)
                continue
            self.purges += 1
            if status != 200:
                self._verdicts.wrong[f"a purge: status {status}"] += 1
        wire.close()

    def _now_s(self) -> float:
        return time.monotonic() - self._begun_s

    def _next(self) -> str:
        return "{}/{}/{}".format(*next(self._walk))

    async def _tile(self, wire: Wire, layer: str) -> None:
        address, known = self._next(), self._known
        # Half of the questions that were asked before have the tag, which is that of the right bytes.
        etag = known.get(address, "") if self._luck.random() < 0.5 else ""
        lines = (f"If-None-Match: {etag}",) if etag else ()
        asked_s = self._now_s()
        status, headers, body = await wire.ask(f"/api/tiles/{layer}/{address}.png", *lines)
        self._verdicts.tile(
            address, status, body, asked_s=asked_s, now_s=self._now_s(), etag_known=bool(etag)
        )
        if status == 200:
            known[address] = headers["etag"]
            if len(known) > ETAGS_MAX:
                known.popitem(last=False)

    async def _batch(self, wire: Wire, layer: str) -> None:
        addresses = [self._next() for _ in range(self._luck.randint(1, BATCH_MAX))]
        asked_s = self._now_s()
        query = "&".join(f"tiles={address}.png" for address in addresses)
        status, _, body = await wire.ask(f"/api/tiles/{layer}/batch?{query}")
        now_s = self._now_s()
        self.batches += 1
        if status != 200:
            self._verdicts.tile(addresses[0], status, body, asked_s=asked_s, now_s=now_s, etag_known=False)
            return
        told = json.loads(body)
        answered = 0
        for address in dict.fromkeys(addresses):
            found = told["tiles"].get(f"{layer}/{address}.png")
            error = told["errors"].get(f"{layer}/{address}.png")
            answered += (found is not None) != (error is not None)
            if found is not None:
                picture = base64.b64decode(found)
                self._verdicts.tile(address, 200, picture, asked_s=asked_s, now_s=now_s, etag_known=False)
            elif error is not None:
                self._verdicts.item(address, error, asked_s=asked_s, now_s=now_s)
        if answered != len(dict.fromkeys(addresses)) or told["count"] != len(told["tiles"]):
            self._verdicts.wrong["a batch with a tile too many or too few"] += 1

    async def _leave(self, layer: str) -> None:
        """Ask on a connection of one's own, and be gone before or in the middle of the answer."""
        wire = Wire(self._base)
        await wire.send(f"/api/tiles/{layer}/{self._next()}.png")
        await asyncio.sleep(self._luck.uniform(0.0, 0.08))
        wire.close()
        self.left += 1

    async def _figures(self, wire: Wire, layer: str) -> None:
        for path in (f"/api/tiles/{layer}/cache-stats", f"/api/tiles/{layer}", "/metrics", "/health/live"):
            status, _, _ = await wire.ask(path)
            if status != 200:
                self._verdicts.wrong[f"{path.rpartition('/')[2]}: status {status}"] += 1


async def fetching_now(base: str, layers: list[str]) -> int:
    """Fetches under way at the origin, by the service's own figures."""
    wire, total = Wire(base), 0
    with contextlib.closing(wire):
        for layer in layers:
            _, _, body = await wire.ask(f"/api/tiles/{layer}/cache-stats")
            total += json.loads(body)["current_concurrent_fetches"]
    return total
