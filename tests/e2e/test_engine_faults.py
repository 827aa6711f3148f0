"""The whole engine against each fault of the lab's server, over a real wire.

Nothing lost, nothing corrupt kept, and no more requests than the fault explains.
"""

import asyncio
from pathlib import Path

import pytest

import tilehaul
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockServer
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.wiring import senders

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
# Those of the fault catalogue are in scenarios/test_damage.py.
KINDS = ["empty_200", "reset_before", "close_before", "gzip_bomb", "header_bomb"]

# A kept-alive connection that ends before a first byte is used anew by libcurl itself (RFC 9112, 9.3.1
# allows it for GET): some of these never reach our count.
SILENT_ON_REUSE = {"reset_before", "close_before"}


def options(**sending: object) -> tilehaul.SeedOptions:
    return tilehaul.SeedOptions(
        sending=tilehaul.Sending(**{"concurrency": 8, "retries": 12, **sending}),  # type: ignore[arg-type]
        max_failures=tilehaul.FailureLimit(count=1000),
    )


async def content(path: Path) -> dict[tilehaul.TileId, bytes]:
    store = MbtilesStore(path)
    try:
        kept = {}
        async for tile_id in store.tile_ids():
            tile = await store.get(tile_id)
            assert isinstance(tile, tilehaul.Tile)
            kept[tile_id] = tile.body
        return kept
    finally:
        await store.close()


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once: these tests are about what is kept, not about when."""
    rule = senders.RetryRule
    monkeypatch.setattr(senders, "RetryRule", lambda **given: rule(**given, delay_s_first=0.001))


@pytest.mark.usefixtures("quick_backoff")
@pytest.mark.parametrize("kind", KINDS)
async def test_damaged_answer_is_never_kept_and_always_asked_for_again(tmp_path: Path, kind: str) -> None:
    """A quarter of all answers are damaged in one way; the archive is the origin's, byte for byte."""
    path = tmp_path / "out.mbtiles"
    faults = Faults(shares={kind: 0.25})  # type: ignore[dict-item]
    async with MockServer(MockSettings(tile_bytes=3000, seed=11, faults=faults)) as server:
        report = await tilehaul.seed(server.template, str(path), AREA, options=options())
        stats = server.stats()
        expected = {tile_id: server.body_of(tile_id) for tile_id in AREA}
    refused = kind in ("gzip_bomb", "header_bomb")  # too large is permanent: dead at once, not asked again
    if refused:
        assert report.state == "dead_letters"
        assert report.done + report.dead == 85
        assert stats.requests == 85
    else:
        assert report.state == "complete"
        assert stats.requests == 85 + stats.by_fault[kind]
        if kind in SILENT_ON_REUSE:
            assert 0 < report.retried <= stats.by_fault[kind]
        else:
            assert report.retried == stats.by_fault[kind]
    kept = await content(path)
    assert kept == {tile_id: body for tile_id, body in expected.items() if tile_id in kept}
    assert len(kept) == report.done


async def test_user_agent_names_us_and_the_contact(tmp_path: Path) -> None:
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[0])
    async with MockServer() as server:
        path = str(tmp_path / "out.mbtiles")
        await tilehaul.seed(server.template, path, area, options=options(contact="maps@example.com"))
        agent = server.stats().last_user_agent
    assert agent.startswith(f"tilehaul/{tilehaul.__version__} (+")
    assert agent.endswith("; maps@example.com)")


async def test_settings_reach_the_wire(tmp_path: Path) -> None:
    """Headers go to the origin; a service that waits five seconds is not held by an hour's Retry-After."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(
            b"HTTP/1.1 429 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sending = tilehaul.Sending(headers=(("X-Api-Key", "k1"),), max_wait_s=5.0, retries=0)
    template = f"http://127.0.0.1:{port}/{{z}}/{{x}}/{{y}}.png"
    async with server, tilehaul.open(template, sending=sending) as source:
        for _ in range(3):
            async with asyncio.timeout(2):
                with pytest.raises(tilehaul.ThrottledError) as caught:
                    await source.get(tilehaul.TileId(0, 0, 0))
    assert caught.value.retry_after_s == pytest.approx(3600, abs=400)
    assert len(heads) == 1
    assert "X-Api-Key: k1" in heads[0]
