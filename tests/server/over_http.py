"""A whole service on a free port over the lab's tile server, and a client that reads streams."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tilehaul.config.load import parse_settings
from tilehaul.net.clock import SystemClock
from tilehaul.server.app import Server, make_app
from tilehaul.wiring.layers import open_layers
from tilehaul.wiring.running_jobs import RunningJobs

JSON = ("Content-Type", "application/json")


@dataclass
class Told:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Running:
    """A service that runs."""

    port: int
    jobs: RunningJobs

    async def ask(self, method, path, body=None, headers=()):
        """One request on a connection of its own."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        typed = [] if body is None or any(name == "Content-Type" for name, _ in headers) else [JSON]
        reader, writer = await self.open(
            method, path, [*headers, *typed, ("Content-Length", str(len(raw))), ("Connection", "close")], raw
        )
        status, told = await read_head(reader)
        answer = Told(status, told, await reader.read())
        writer.close()
        return answer

    async def open(self, method, path, headers=(), raw=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        named = {"Host": f"127.0.0.1:{self.port}", **dict(headers)}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + raw)
        return reader, writer

    async def follow(self, job, *, last=None, until=None):
        """The events of a stream, up to its end or the first that `until` says yes to."""
        headers = [] if last is None else [("Last-Event-ID", str(last))]
        reader, writer = await self.open("GET", f"/api/jobs/{job}/events", headers)
        status, told = await read_head(reader)
        assert (status, told["content-type"]) == (200, "text/event-stream; charset=utf-8")
        found = []
        async for block in blocks(reader):
            if not block.startswith("id:"):
                assert block.startswith(("retry: ", ":"))
                continue
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            data = json.loads(fields["data"])
            assert data["type"] == fields["event"]
            found.append((int(fields["id"]), data))
            if until is not None and until(data):
                break
        writer.close()
        return found


async def read_head(reader):
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    return int(first.split()[1]), {
        name.lower(): value for name, value in (line.split(": ", 1) for line in rest)
    }


async def blocks(reader):
    """The blocks of a chunked stream, each without the empty line that ends it."""
    text = ""
    while size := int(await reader.readline(), 16):
        text += (await reader.readexactly(size + 2))[:-2].decode()
        while "\n\n" in text:
            block, text = text.split("\n\n", 1)
            yield block


@asynccontextmanager
async def running(template, folder, **jobs):
    """A service whose layer `world` is at `template`; `jobs` are settings of that part."""
    layer = {"source": template, "headers": {"X-Api-Key": "canary-job-7a1"}}
    part = {"folder": str(folder), **jobs}
    settings = parse_settings({"layers": {"world": layer}, "jobs": part}, {})
    async with open_layers(settings) as opened, RunningJobs(settings) as started:
        app = make_app(
            opened.layers, opened.caches.memory, clock=SystemClock(), process=opened.process, jobs=started
        )
        async with Server(app, port=0, drain_s=1) as server:
            yield Running(int(server.url.rpartition(":")[2]), started)
            await started.aclose()
