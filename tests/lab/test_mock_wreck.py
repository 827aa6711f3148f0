"""The mock server on the wire: a raw socket sees every broken answer as promised."""

import asyncio
import gzip
import socket
import zlib
from dataclasses import replace

import pytest
from mock_client import raw, with_fault

from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, SlowBody
from tilehaul.lab.mock import MockServer, MockSettings, MockThread


async def test_short_length_promises_more_than_it_sends():
    """Content-Length of the whole tile, half of the bytes, then the end."""
    async with MockServer(with_fault("short_length")) as server:
        seen = await raw(server)
        assert seen.headers["content-length"] == "4000"
        assert seen.body == server.body_of("3/4/2")[:2000]
        assert server.stats().by_fault == {"short_length": 1}


async def test_cut_chunked_ends_inside_a_chunk():
    """A chunk that announces all and carries half, no last chunk."""
    async with MockServer(with_fault("cut_chunked")) as server:
        seen = await raw(server)
        assert seen.headers["transfer-encoding"] == "chunked"
        size, _, rest = seen.body.partition(b"\r\n")
        assert int(size, 16) == 4000
        assert rest == server.body_of("3/4/2")[:2000]


async def test_cut_close_gives_no_length_and_half_the_bytes():
    """Only the picture itself can tell that something is missing."""
    async with MockServer(with_fault("cut_close")) as server:
        seen = await raw(server)
        assert not {"content-length", "transfer-encoding"} & set(seen.headers)
        assert (seen.status, seen.headers["connection"]) == (200, "close")
        assert seen.body == server.body_of("3/4/2")[:2000]


async def test_cut_gzip_has_the_right_length_of_a_broken_stream():
    """Content-Length fits the bytes; the gzip stream in them has no end."""
    async with MockServer(with_fault("cut_gzip")) as server:
        seen = await raw(server)
        assert (seen.headers["content-encoding"], int(seen.headers["content-length"])) == (
            "gzip",
            len(seen.body),
        )
        with pytest.raises(EOFError):
            gzip.decompress(seen.body)
        begun = zlib.decompressobj(31).decompress(seen.body)
        assert server.body_of("3/4/2").startswith(begun)


async def test_bit_flip_changes_one_bit_and_nothing_else():
    """Right length, right type, one wrong bit."""
    async with MockServer(with_fault("bit_flip")) as server:
        seen, true = await raw(server), server.body_of("3/4/2")
        assert seen.headers["content-length"] == "4000"
        assert sum((a ^ b).bit_count() for a, b in zip(seen.body, true, strict=True)) == 1


@pytest.mark.parametrize(
    ("kind", "media_type", "begins"),
    [
        ("xml_200", "text/xml; charset=utf-8", b"<?xml"),
        ("xml_as_png", "image/png", b"<?xml"),
        ("html_200", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        ("empty_200", "image/png", b""),
        ("blank_200", "image/png", b"\x89PNG"),
    ],
)
async def test_wrong_bodies_with_status_200(kind, media_type, begins):
    """An error page or nothing, with the status of success and a true length."""
    async with MockServer(with_fault(kind)) as server:
        seen = await raw(server)
        assert (seen.status, seen.headers["content-type"]) == (200, media_type)
        assert int(seen.headers["content-length"]) == len(seen.body)
        assert seen.body.startswith(begins)
        assert (b"ServiceException" in seen.body) == kind.startswith("xml")
        assert (len(seen.body) == 0) == (kind == "empty_200")


async def test_wrong_tile_is_a_whole_other_tile():
    """Valid, and not the one asked for."""
    async with MockServer(with_fault("wrong_tile")) as server:
        assert (await raw(server)).body == server.body_of("3/5/2")
        assert (await raw(server, "/0/0/0.png")).body == server.body_of("1/0/0")


async def test_bombs_are_as_large_as_they_say():
    """A head of more than a mebibyte, and 64 MiB of zeros in a small body."""
    async with MockServer(with_fault("gzip_bomb")) as server:
        seen = await raw(server)
        assert len(seen.body) < 200_000
        one = zlib.decompressobj(31)
        assert len(one.decompress(seen.body)) == 1 << 20
        assert len(seen.body) == 64 * (len(seen.body) - len(one.unused_data))
        server.set_faults(Faults(shares={"header_bomb": 1.0}))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 22)
        writer.write(b"GET /1/0/0.png HTTP/1.1\r\n\r\n")
        assert len(await reader.readuntil(b"\r\n\r\n")) > 1 << 20
        writer.close()


async def test_resets_and_silent_ends():
    """RST before an answer, RST in the middle of one, a FIN without an answer."""
    async with MockServer(with_fault("reset_before")) as server:
        seen = await raw(server)
        assert (seen.status, seen.reset) == (0, True)
        server.set_faults(Faults(shares={"reset_mid": 1.0}))
        seen = await raw(server)
        assert (seen.status, seen.reset) == (200, True)
        assert seen.body in (b"", server.body_of("3/4/2")[:2000])
        server.set_faults(Faults(shares={"close_before": 1.0}))
        seen = await raw(server)
        assert (seen.status, seen.reset) == (0, False)
        assert server.stats().by_fault == {"reset_before": 1, "reset_mid": 1, "close_before": 1}
        assert server.stats().by_status == {200: 1}


async def test_black_hole_says_nothing_and_stays_open():
    """No byte, no end; the request counts as in flight until the client gives up."""
    async with MockServer(with_fault("black_hole")) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /3/4/2.png HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.03)
        stats = server.stats()
        assert (stats.in_flight, stats.connections_open, stats.by_status) == (1, 1, {})
        assert stats.by_fault == {"black_hole": 1}
        writer.close()
        while server.stats().connections_open:
            await asyncio.sleep(0.001)
        assert server.stats().in_flight == 0


async def test_slow_body_trickles():
    """4,000 bytes at 50,000 a second take at least 60 ms, and come in pieces."""
    settings = MockSettings(tile_bytes=4000, faults=Faults(slow_body=SlowBody(50_000)))
    async with MockServer(settings) as server:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        seen = await raw(server)
        assert seen.body == server.body_of("3/4/2")
        assert 0.055 < loop.time() - begun_s < 2.0
        assert server.stats().by_fault == {"slow_body": 1}


async def test_same_seed_meets_the_same_faults_in_any_order():
    """What happens to a tile depends on seed, tile and attempt, not on what was asked before."""
    faults = Faults(errors={500: 0.3, 404: 0.2}, shares={"xml_200": 0.2})
    paths = [f"/6/{x}/33.png" for x in range(40)]

    async def outcomes(seed, order):
        async with MockServer(MockSettings(faults=faults, seed=seed)) as server:
            first = {path: (await raw(server, path)) for path in order}
            return {path: (seen.status, seen.headers["content-type"]) for path, seen in first.items()}

    forward = await outcomes(1, paths)
    assert await outcomes(1, list(reversed(paths))) == forward
    assert await outcomes(2, paths) != forward
    assert len(set(forward.values())) == 4


async def test_faults_of_a_body_spare_those_without_one():
    """HEAD and absent tiles have nothing to cut: they are answered honestly and no fault is counted."""
    settings = replace(with_fault("short_length"), absence=Absence(above_zoom=3))
    async with MockServer(settings) as server:
        assert (await raw(server, method="HEAD")).headers["content-length"] == "4000"
        assert (await raw(server, "/4/0/0.png")).status == 404
        assert server.stats().by_fault == {}


@pytest.mark.parametrize("kind", ["reset_before", "reset_mid"])
def test_reset_is_a_reset_on_the_quick_loop_too(kind):
    """uvloop's transports wrap the socket; the RST must come through all the same."""
    with (
        MockThread(with_fault(kind)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"GET /3/4/2.png HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: client.recv(1 << 16), b""))
