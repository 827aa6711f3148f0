"""What HTTP clients make of eleven broken answers, a gzip bomb, and a name that leads inside.

    python benchmarks/http_faults.py

A small raw server on loopback sends each fault byte for byte; each client, in a process of its
own, is asked for it. `error` is what we want, `ACCEPTED n` is a whole answer of n bytes that was
none. Where the wire itself accepts, the checks above it (`net/verified.py`) must catch it; the
column "checked" sends the same through them. A library that is not installed is named as skipped.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib
import importlib.util
import json
import random
import resource
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable


def _png() -> bytes:
    """A valid picture of noise, 64 x 64, about 12 KB: its end can be checked."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    luck = random.Random(1)
    rows = b"".join(b"\0" + luck.randbytes(64 * 3) for _ in range(64))
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


BODY = _png()
PACKED = gzip.compress(BODY)
BOMB_MIB = 256
LIMIT_S = 3.0
Get = Callable[[str], Awaitable[bytes]]
Use = Callable[[Get], Awaitable[None]]


def _head(length: int | None, *extra: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Content-Type: image/png", *extra]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def _bad_crc() -> bytes:
    return PACKED[:-8] + bytes(b ^ 0xFF for b in PACKED[-8:-4]) + PACKED[-4:]


CODED = "Content-Encoding: gzip"
CHUNKED = "Transfer-Encoding: chunked"
CLOSE = "Connection: close"
# name: (bytes, whether the connection ends with a reset)
FAULTS: dict[str, tuple[bytes, bool]] = {
    "short content-length": (_head(len(BODY)) + BODY[:6000], False),
    "cut chunk": (_head(None, CHUNKED) + b"%x\r\n" % len(BODY) + BODY[:6000], False),
    "missing last chunk": (_head(None, CHUNKED) + b"%x\r\n" % len(BODY) + BODY + b"\r\n", False),
    "reset mid-body": (_head(len(BODY)) + BODY[:6000], True),
    "close-delimited, short": (_head(None, CLOSE) + BODY[:6000], False),
    "gzip cut, length matches": (_head(len(PACKED) - 40, CODED) + PACKED[:-40], False),
    "bytes after content-length": (_head(len(BODY)) + BODY + b"extra", False),
    "bad gzip crc": (_head(len(PACKED), CODED) + _bad_crc(), False),
    "two content-lengths": (_head(len(BODY), "Content-Length: 5") + BODY, False),
    "garbage status line": (b"\x00\x01garbage\r\n\r\n" + BODY, False),
    "header bomb, 1 MiB": (_head(len(BODY), *(f"X-{n}: {'a' * 1000}" for n in range(1024))) + BODY, False),
}


def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(BOMB_MIB)), packer.flush()])


# --- clients, decoding as they would be used --------------------------------------------------------


async def with_wire(use: Use, *, checked: bool, port: int) -> None:
    from tilehaul.net.addresses import AddressGuard
    from tilehaul.net.clock import SystemClock
    from tilehaul.net.verified import VerifiedSender
    from tilehaul.net.wire import Wire
    from tilehaul.policy.tally import Tally
    from tilehaul.ports.wire import Request, Sender

    guard = AddressGuard(frozenset({f"127.0.0.1:{port}"}))
    async with Wire("tilehaul-benchmark", guard=guard) as wire:
        sender: Sender = VerifiedSender(wire, SystemClock(), Tally()) if checked else wire

        async def get(url: str) -> bytes:
            return (await sender.send(Request(url))).body

        await use(get)


async def with_pyreqwest(use: Use) -> None:
    library = importlib.import_module("pyreqwest.client")
    async with library.ClientBuilder().build() as client:

        async def get(url: str) -> bytes:
            return bytes(await (await client.get(url).build().send()).bytes())

        await use(get)


async def with_aiohttp(use: Use) -> None:
    library = importlib.import_module("aiohttp")
    async with library.ClientSession() as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as response:
                return bytes(await response.read())

        await use(get)


async def with_httpx(use: Use) -> None:
    library = importlib.import_module("httpx")
    async with library.AsyncClient() as client:

        async def get(url: str) -> bytes:
            return bytes((await client.get(url)).content)

        await use(get)


CLIENTS: dict[str, tuple[str, Callable[[Use, int], Awaitable[None]]]] = {
    "wire (pycurl)": ("tilehaul.net.wire", lambda use, port: with_wire(use, checked=False, port=port)),
    "checked": ("tilehaul.net.verified", lambda use, port: with_wire(use, checked=True, port=port)),
    "pyreqwest": ("pyreqwest", lambda use, _port: with_pyreqwest(use)),
    "aiohttp": ("aiohttp", lambda use, _port: with_aiohttp(use)),
    "httpx": ("httpx", lambda use, _port: with_httpx(use)),
}


# --- the server -------------------------------------------------------------------------------------


async def serve(listener: socket.socket) -> None:
    """`/fault/N` answers the N-th fault, `/bomb` the bomb, `/ok` a whole answer."""
    faults = list(FAULTS.values())
    bomb = _bomb()
    bomb_answer = _head(len(bomb), CODED) + bomb

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            kind, _, number = path.strip("/").partition("/")
            reset = False
            if kind == "fault":
                reply, reset = faults[int(number)]
            else:
                reply = bomb_answer if kind == "bomb" else _head(len(BODY)) + BODY
            writer.write(reply)
            await writer.drain()
            if reset:
                await asyncio.sleep(0.05)  # let the bytes arrive first: a reset discards what waits
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, sock=listener)
    await server.serve_forever()


# --- one client, in its own process -----------------------------------------------------------------


async def run_client(name: str, port: int) -> dict[str, str]:
    found: dict[str, str] = {}
    base = f"http://127.0.0.1:{port}"

    async def verdict(get: Get, path: str, whole: bytes) -> str:
        try:
            body = await asyncio.wait_for(get(base + path), LIMIT_S)
        except TimeoutError:
            return "HUNG"
        except Exception as error:
            cause = getattr(error, "cause", "")
            return f"error ({cause})" if cause else f"error ({type(error).__name__})"
        return "whole" if body == whole else f"ACCEPTED {len(body)}"

    async def use(get: Get) -> None:
        for n, fault in enumerate(FAULTS):
            found[fault] = await verdict(get, f"/fault/{n}", BODY)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = await verdict(get, "/bomb", b"")
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        found[f"gzip bomb, {BOMB_MIB} MiB"] = f"{said}, +{grown_mb:.0f} MB"

    await CLIENTS[name][1](use, port)
    return found


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(asyncio.run(run_client(sys.argv[2], int(sys.argv[3])))))
        return
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(socket.socket(fileno=int(sys.argv[2]))))
        return
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(listener.fileno())]
    server = subprocess.Popen(command, pass_fds=[listener.fileno()])
    tables: dict[str, dict[str, str]] = {}
    try:
        for name, (module, _) in CLIENTS.items():
            try:
                there = importlib.util.find_spec(module) is not None
            except ModuleNotFoundError:
                there = False
            if not there:
                print(f"SKIPPED {name}: {module} is not installed")
                continue
            ran = subprocess.run(
                [sys.executable, __file__, "--run", name, str(port)],
                capture_output=True,
                text=True,
                check=False,
            )
            if ran.returncode:
                raise SystemExit(f"{name} failed:\n{ran.stderr}")
            tables[name] = json.loads(ran.stdout)
    finally:
        server.terminate()
        server.wait()
    print("| fault | " + " | ".join(tables) + " |")
    print("|---|" + "---|" * len(tables))
    for fault in next(iter(tables.values())):
        print(f"| {fault} | " + " | ".join(table[fault] for table in tables.values()) + " |")


if __name__ == "__main__":
    main()
