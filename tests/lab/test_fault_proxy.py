"""The fault proxy on real sockets: what each fault looks like from either side, and what is counted."""

import asyncio
import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

import tilehaul
from tilehaul.cli import exit_codes
from tilehaul.cli.main import main
from tilehaul.errors import ConfigError
from tilehaul.lab.fault_link import DRIP_S
from tilehaul.lab.fault_proxy import FaultProxy
from tilehaul.lab.link_faults import LinkPlan
from tilehaul.lab.mock import MockServer, MockThread

# So long nothing comes of a connection that is silent.
SILENCE_S = 0.05
REPLY = bytes(range(256)) * 40


@dataclass
class Upstream:
    """Answers each line with REPLY; `quit` closes, `die` resets. Remembers what it was told."""

    url: str = ""
    heard: list[bytes] = field(default_factory=list)
    gone: int = 0
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while line := await reader.readline():
                self.heard.append(line)
                if line == b"quit\n":
                    break
                if line == b"die\n":
                    writer.transport.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
                    writer.transport.abort()
                    break
                writer.write(REPLY)
                await writer.drain()
        except ConnectionError:
            pass
        self.gone += 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1


@contextlib.asynccontextmanager
async def behind(*faults: str, seed: int = 0) -> AsyncIterator[tuple[FaultProxy, Upstream]]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, FaultProxy(upstream.url, LinkPlan.of(*faults, seed=seed)) as proxy:
        yield proxy, upstream
    await asyncio.sleep(0.01)  # connections that were on their way are taken now
    await until(lambda: upstream.open == 0)


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, proxy: FaultProxy) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, line: bytes = b"more\n", count: int = len(REPLY)) -> bytes:
        """The next `count` bytes, or fewer where the connection ends before."""
        self.writer.write(line)
        got = b""
        # A stream that was reset does not give up what it has read before.
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                while len(got) < count and (piece := await self.reader.read(count - len(got))):
                    got += piece
        return got

    async def end(self, *, within_s: float = 10.0) -> str:
        """How the connection ends: `closed`, `reset`, or not at all: `open`."""
        try:
            async with asyncio.timeout(within_s):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return "open"
        except ConnectionResetError:
            return "reset"
        finally:
            self.writer.close()
        return "closed"


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


async def test_without_faults_bytes_pass_both_ways_and_are_counted() -> None:
    async with behind() as (proxy, upstream):
        clients = [await Client.of(proxy) for _ in range(3)]
        for client in clients:
            assert [await client.ask(b"more\n"), await client.ask(b"again\n")] == [REPLY, REPLY]
        stats = proxy.stats()
        assert (stats.connections, stats.open) == (3, 3)
        assert (stats.bytes_up, stats.bytes_down) == (3 * 11, 6 * len(REPLY))
        clients[0].writer.close()
        await until(lambda: proxy.stats().open == 2)
        assert upstream.gone == 1
        clients[1].writer.write(b"quit\n")
        assert await clients[1].end() == "closed"
        clients[2].writer.write(b"die\n")
        assert await clients[2].end() == "reset"
        assert proxy.stats().by_fault == {}
    assert proxy.stats().open == 0


@pytest.mark.parametrize(("fault", "end"), [("cut", "closed"), ("reset", "reset"), ("black_hole", "open")])
async def test_end_after_so_many_bytes_counts_over_answers(fault: str, end: str) -> None:
    """The second answer is the one that is cut."""
    limit = len(REPLY) + 1000
    async with behind(f"{fault}={limit}@1") as (proxy, upstream):
        client, spared = await Client.of(proxy), await Client.of(proxy)
        assert await client.ask() == REPLY
        assert await client.ask(count=1000) in (REPLY[:1000], b"" if end == "reset" else None)
        assert await client.end(within_s=SILENCE_S if end == "open" else 10.0) == end
        assert [await spared.ask(), await spared.ask()] == [REPLY, REPLY]
        assert proxy.stats().bytes_down == limit + 2 * len(REPLY)
        assert proxy.stats().by_fault == {fault: 1}
        assert len(upstream.heard) == 4
        spared.writer.close()
        await until(lambda: proxy.stats().open == 0)


@pytest.mark.parametrize(("fault", "end"), [("cut", "closed"), ("reset", "reset"), ("black_hole", "open")])
@pytest.mark.parametrize("when", ["", "=0"])
async def test_end_at_once_is_before_the_upstream_is_asked(fault: str, end: str, when: str) -> None:
    """After 0 bytes it was asked, and its answer is lost."""
    async with behind(fault + when) as (proxy, upstream):
        client = await Client.of(proxy)
        client.writer.write(b"more\n")
        await until(lambda: proxy.stats().by_fault)
        assert await client.end(within_s=SILENCE_S if end == "open" else 10.0) == end
        assert upstream.heard == ([b"more\n"] if when else [])
        assert proxy.stats().by_fault == {fault: 1}
        await until(lambda: proxy.stats().open == 0)


async def test_throttle_lets_so_many_bytes_a_second_through() -> None:
    """At 20,000 bytes a second, two thousand need a tenth of a second, but for the first of each drip."""
    async with behind("throttle=20000") as (proxy, _):
        client = await Client.of(proxy)
        begun = asyncio.get_running_loop().time()
        client.writer.write(b"more\n")
        got = await client.reader.readexactly(2000)
        assert asyncio.get_running_loop().time() - begun >= 0.1 - 2 * DRIP_S
        assert REPLY.startswith(got)
        client.writer.close()


async def test_delay_holds_back_and_loses_nothing() -> None:
    """The wait is one of time, not of pieces: ten of them need no longer than one."""
    async with behind("delay=0.06") as (proxy, _):
        client = await Client.of(proxy)
        begun = asyncio.get_running_loop().time()
        got = await client.ask(b"more\n" * 10, 1)
        assert asyncio.get_running_loop().time() - begun >= 0.06
        assert got + await client.ask(b"", 10 * len(REPLY) - 1) == REPLY * 10
        client.writer.close()


async def test_refused_connection_is_refused_and_others_go_on() -> None:
    async with behind() as (proxy, _):
        client = await Client.of(proxy)
        await proxy.use(LinkPlan.of("refuse"))
        with pytest.raises(ConnectionRefusedError):
            await Client.of(proxy)
        assert await client.ask() == REPLY
        await proxy.use(LinkPlan())
        again = await Client.of(proxy)
        assert await again.ask() == REPLY
        assert proxy.stats().connections == 2
        for one in (client, again):
            one.writer.close()


async def test_refusal_on_a_timetable() -> None:
    """Down for the second half of each tenth of a second: both are met, again and again."""
    seen: list[str] = []
    async with behind("refuse@0.05s-0.1s/0.1s") as (proxy, _):
        async with asyncio.timeout(10):
            while [state for state, _ in itertools.groupby(seen)] != ["up", "down", "up", "down", "up"]:
                try:
                    client = await Client.of(proxy)
                except (ConnectionRefusedError, ConnectionResetError):
                    seen.append("down")  # reset: it stood in the queue when the door was shut
                else:
                    seen.append("up")
                    client.writer.close()
                await asyncio.sleep(0.002)


async def test_other_plan_reaches_open_connections_when_they_speak_next() -> None:
    async with behind() as (proxy, upstream):
        client = await Client.of(proxy)
        assert await client.ask() == REPLY
        await proxy.use(LinkPlan.of("reset"))
        client.writer.write(b"more\n")
        assert await client.end() == "reset"
        assert len(upstream.heard) == 1


async def test_upstream_that_is_away_is_told_apart() -> None:
    async with behind() as (proxy, upstream):
        pass
    async with FaultProxy(upstream.url) as proxy:
        client = await Client.of(proxy)
        assert await client.end() == "closed"
        assert proxy.stats().by_fault == {"upstream_away": 1}


async def test_port_in_use_and_senseless_upstreams_are_refused() -> None:
    with pytest.raises(ConfigError, match="http://"):
        FaultProxy("ftp://host/")
    async with behind() as (proxy, upstream):
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{proxy.port}"):
            async with FaultProxy(upstream.url, port=proxy.port):
                pass


async def test_tiles_through_the_proxy() -> None:
    """What a library user does: the template, with the proxy's address."""
    async with MockServer() as server, FaultProxy(server.base_url) as proxy:
        template = proxy.url_of(server.template)
        assert template == f"http://127.0.0.1:{proxy.port}/{{z}}/{{x}}/{{y}}.png"
        async with tilehaul.open(template) as source:
            tile = await source.get(tilehaul.TileId(3, 4, 2))
        assert tile.body == server.body_of("3/4/2")
        assert proxy.stats().connections == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_command_carries_and_ends_with_counts(as_json: bool) -> None:  # noqa: FBT001
    with MockThread() as server:
        command = [sys.executable, "-m", "tilehaul", "lab", "proxy", server.template, "--fault", "reset@2-"]
        with subprocess.Popen(
            [*command, *(["--json"] if as_json else [])], stdout=subprocess.PIPE, text=True
        ) as process:
            line = process.stdout.readline()
            template = json.loads(line)["address"] if as_json else line.split()[-1]
            assert template.endswith("/{z}/{x}/{y}.png")
            assert template != server.template
            seen = [tilehaul_get(template) for _ in range(2)]
            assert seen == [server.body_of("0/0/0"), "reset"]
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            assert process.wait(10) == exit_codes.COMPLETE
    if as_json:
        assert json.loads(rest)["by_fault"] == {"reset": 1}
    else:
        assert "2 connections" in rest
        assert "1 x reset" in rest


def tilehaul_get(template: str) -> bytes | str:
    sending = tilehaul.Sending(retries=0)
    with tilehaul.blocking.open(template, sending=sending) as source:
        try:
            return source.get(tilehaul.TileId(0, 0, 0)).body
        except tilehaul.TransferError as error:
            return error.cause


@pytest.mark.parametrize("words", [["nonsense"], ["http://127.0.0.1:1", "--fault", "cutt=1"]])
def test_command_refuses_nonsense_with_one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["lab", "proxy", *words]) == exit_codes.USAGE
    assert capsys.readouterr().err.count("\n") == 1
