"""What the processes of one service say to each other, over a pair of sockets.

The parent listens and keeps the workers running; they answer. Every message is a length in four bytes and
MessagePack of one of the structs below.
"""

import asyncio
import contextlib
import socket
from typing import Generic, TypeVar

import msgspec

from tilehaul.config.settings import Settings
from tilehaul.server.figures import OthersFigures
from tilehaul.server.worker_figures import WorkerFigures

# A hundred layers with all their samples have a megabyte.
FRAME_BYTES_MAX = 64 * 1024 * 1024
# Who does not read what is meant for it by then is not told more.
UNSENT_BYTES_MAX = 16 * 1024 * 1024


class Begin(msgspec.Struct, tag=True, frozen=True):
    """The first word to a worker: it is the `index`-th of `count` of a service that is `age_s` old."""

    settings: Settings
    index: int
    count: int
    age_s: float
    log_level: str = ""
    log_json: bool = False


class Prepare(msgspec.Struct, tag=True, frozen=True):
    """Open what these settings name; `Prepared` is the answer. `Take` or `Drop` follows."""

    settings: Settings


class Take(msgspec.Struct, tag=True, frozen=True):
    """Serve what was prepared; `Taken` is the answer."""


class Drop(msgspec.Struct, tag=True, frozen=True):
    """Close what was prepared."""


class Leave(msgspec.Struct, tag=True, frozen=True):
    """End in good order."""


class Asked(msgspec.Struct, tag=True, frozen=True):
    """Another worker asks: for figures, or to forget tiles of a layer. `Reply` is the answer."""

    number: int
    layer: str = ""
    bbox: str | None = None
    zooms: str | None = None


class Answered(msgspec.Struct, tag=True, frozen=True):
    """What the others replied to an `Ask`."""

    number: int
    figures: OthersFigures | None = None
    forgotten: int = 0


class Hold(msgspec.Struct, tag=True, frozen=True):
    """An upstream has asked another worker to wait: see `Held`."""

    lane: str
    delay_s: float


class Up(msgspec.Struct, tag=True, frozen=True):
    """The worker answers requests. `notes`: see `Serving.notes`."""

    layers: tuple[str, ...]
    notes: dict[str, str] = {}


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The worker cannot begin, and ends with this exit code."""

    message: str
    code: int


class Prepared(msgspec.Struct, tag=True, frozen=True):
    """`error`: why it could not be; "" when it could."""

    error: str = ""


class Taken(msgspec.Struct, tag=True, frozen=True):
    """The layers of the new settings are served."""

    layers: tuple[str, ...]


class Told(msgspec.Struct, tag=True, frozen=True):
    """The figures of those layers that have changed since the last time."""

    figures: WorkerFigures


class Held(msgspec.Struct, tag=True, frozen=True):
    """An upstream has asked this worker's lane to wait for so long."""

    lane: str
    delay_s: float


class Ask(msgspec.Struct, tag=True, frozen=True):
    """See `Asked`. `figures`: the asker's own."""

    number: int
    figures: WorkerFigures | None = None
    layer: str = ""
    bbox: str | None = None
    zooms: str | None = None


class Reply(msgspec.Struct, tag=True, frozen=True):
    """To an `Asked`."""

    number: int
    figures: WorkerFigures | None = None
    forgotten: int = 0


ToWorker = Begin | Prepare | Take | Drop | Leave | Asked | Answered | Hold
ToParent = Up | Failed | Prepared | Taken | Told | Ask | Reply | Held

In = TypeVar("In")
Out = TypeVar("Out")


class Link(Generic[In, Out]):
    """One end. Made by `worker_end` or `parent_end`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: "msgspec.msgpack.Decoder[In]",
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, message: Out) -> bool:
        """Say something; never waits. False when the other end is gone, or reads nothing."""
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            return False
        body = self._encoder.encode(message)
        self._writer.write(len(body).to_bytes(4, "big") + body)
        return True

    async def receive(self) -> In | None:
        """The next message; None when the other end is gone."""
        try:
            size_bytes = int.from_bytes(await self._reader.readexactly(4), "big")
            if size_bytes > FRAME_BYTES_MAX:
                return None
            return self._decoder.decode(await self._reader.readexactly(size_bytes))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def aclose(self) -> None:
        """Send what is still to be sent, and close."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def worker_end(channel: socket.socket) -> Link[ToWorker, ToParent]:
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    return Link(reader, writer, msgspec.msgpack.Decoder(ToWorker))


async def parent_end(channel: socket.socket) -> Link[ToParent, ToWorker]:
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    return Link(reader, writer, msgspec.msgpack.Decoder(ToParent))
