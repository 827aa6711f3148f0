"""What the tests of the mock server share: a raw client, a clock by hand, settings with one fault."""

import asyncio
from dataclasses import dataclass

from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockSettings


class Hands:
    """A clock that moves when told to."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@dataclass
class Seen:
    status: int
    headers: dict
    body: bytes
    reset: bool = False


async def raw(server, path="/3/4/2.png", *, method="GET", headers=""):
    """Send one request with Connection: close and read to the end, whatever comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
    got, reset = b"", False
    try:
        while piece := await reader.read(1 << 20):
            got += piece
    except ConnectionResetError:
        reset = True
    writer.close()
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    status = int(lines[0].split()[1]) if got else 0
    fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    return Seen(status, fields, body, reset)


def with_fault(kind, **more):
    return MockSettings(faults=Faults(shares={kind: 1.0}, **more), tile_bytes=4000)
