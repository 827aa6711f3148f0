"""Scenarios 13 to 21: answers that are damaged on the way, wrong from the beginning, or never end.

Nothing damaged is ever kept; what can be mended is asked for again, what cannot is a dead letter.
"""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from trial import ONE_TILE, SEED, Trial

import tilehaul
from tilehaul.lab.fault_proxy import FaultProxy
from tilehaul.lab.faults import Faults, Kind, SlowBody
from tilehaul.lab.link_faults import LinkPlan
from tilehaul.lab.mock import MockServer
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.wreckage import HTML_PAGE, SERVICE_EXCEPTION

pytestmark = pytest.mark.usefixtures("quick_backoff")
FEW = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[1])


async def sometimes(folder: Path, kind: Kind) -> None:
    """A quarter of the answers: each is asked for again, once for each time, and the archive is whole."""
    settings = MockSettings(tile_bytes=3000, seed=SEED, faults=Faults(shares={kind: 0.25}))
    async with MockServer(settings) as server:
        trial = Trial(server, folder)
        report = await trial.seed()
        damaged = server.stats().by_fault[kind]
        assert report.state == "complete"
        assert trial.requests == 85 + damaged
        assert report.retried == damaged > 0
        await trial.resumed(report)


async def always(folder: Path, kind: Kind, cause: str, head: Callable[[bytes], bytes]) -> None:
    """Every answer: attempts are used up, nothing is kept, the letter says why; after a repair it comes.

    `head` makes of the true body what the dead letter shows of the damaged one.
    """
    settings = MockSettings(tile_bytes=3000, seed=SEED, faults=Faults(shares={kind: 1.0}))
    async with MockServer(settings) as server:
        trial = Trial(server, folder, ONE_TILE)
        report = await trial.seed(retries=2)
        assert (report.state, report.dead, report.retried) == ("dead_letters", 1, 2)
        assert trial.requests == 3
        assert trial.letters() == [(cause, 3, head(server.body_of("0/0/0")))]
        await trial.resumed(report)


async def broken_links(folder: Path, *faults: str, **sending: object) -> None:
    """Some connections break below HTTP: one request more for each break that the origin has heard."""
    async with (
        MockServer(MockSettings(tile_bytes=3000)) as server,
        FaultProxy(server.base_url, LinkPlan.of(*faults, seed=SEED)) as proxy,
    ):
        trial = Trial(server, folder, template=proxy.url_of(server.template))
        report = await trial.seed(**sending)
        assert report.state == "complete"
        assert trial.requests == 85 + report.retried
        assert 0 < report.retried <= proxy.stats().connections
        await proxy.use(LinkPlan())
        await trial.resumed(report)


def as_sent(body: bytes) -> bytes:
    return body[:200]


def zipped(body: bytes) -> bytes:
    return as_sent(gzip.compress(body, 1, mtime=0))


def nothing(_body: bytes) -> bytes:
    return b""


async def test_13_cut_content_length(tmp_path: Path) -> None:
    """Half of what Content-Length promises, then the end."""
    await sometimes(tmp_path / "some", "short_length")
    await always(tmp_path / "all", "short_length", "cut", nothing)
    await broken_links(tmp_path / "link", "cut=2000@50%")


async def test_14_cut_chunked(tmp_path: Path) -> None:
    """A chunk that announces more than it brings, and no last chunk."""
    await sometimes(tmp_path / "some", "cut_chunked")
    await always(tmp_path / "all", "cut_chunked", "cut", nothing)


async def test_15_cut_close_delimited(tmp_path: Path) -> None:
    """No length at all: HTTP cannot tell, the picture's own end does."""
    await sometimes(tmp_path / "some", "cut_close")
    await always(tmp_path / "all", "cut_close", "truncated", as_sent)


async def test_16_cut_gzip(tmp_path: Path) -> None:
    """Half of a gzip stream under a Content-Length that fits it."""
    await sometimes(tmp_path / "some", "cut_gzip")
    await always(tmp_path / "all", "cut_gzip", "truncated", zipped)


async def test_17_bit_flip(tmp_path: Path) -> None:
    """The right length, one bit wrong: the checksum of a PNG's chunk tells."""
    await sometimes(tmp_path / "some", "bit_flip")
    await always(tmp_path / "all", "bit_flip", "corrupt", as_sent)


@pytest.mark.parametrize(
    ("kind", "page"),
    [("html_200", HTML_PAGE), ("xml_200", SERVICE_EXCEPTION), ("xml_as_png", SERVICE_EXCEPTION)],
    ids=["html", "xml", "xml_as_png"],
)
async def test_18_html_200_xml_exception_200(tmp_path: Path, kind: Kind, page: bytes) -> None:
    """An error page with status 200, whatever it calls itself: two attempts, then dead with its beginning."""
    async with MockServer(MockSettings(seed=SEED, faults=Faults(shares={kind: 1.0}))) as server:
        trial = Trial(server, tmp_path, FEW)
        report = await trial.seed()
        assert (report.dead, report.retried) == (4, 4)
        assert trial.requests == 8
        assert trial.letters() == [("error_page", 2, page[:200])] * 4
        await trial.resumed(report)


@pytest.mark.parametrize("kind", ["wrong_tile", "blank_200"])
async def test_19_wrong_tile_blank(tmp_path: Path, kind: Kind) -> None:
    """A whole picture that is not the right one: nobody can tell, it is kept; --overwrite mends it."""
    async with MockServer(MockSettings(seed=SEED, faults=Faults(shares={kind: 0.25}))) as server:
        trial = Trial(server, tmp_path)
        with pytest.raises(AssertionError, match="is not what the origin has"):
            await trial.seed()
        wrong = [tile_id for tile_id, body in trial.content()[0].items() if body != server.body_of(tile_id)]
        assert trial.requests == 85
        assert len(wrong) == server.stats().by_fault[kind]
        server.set_faults(Faults())
        report = await trial.seed(overwrite=True)
        assert trial.requests == 2 * 85
        assert (report.state, report.done) == ("complete", 85)


async def test_20_rst_mid_body(tmp_path: Path) -> None:
    """A connection that is reset in the middle of an answer."""
    await sometimes(tmp_path / "some", "reset_mid")
    await always(tmp_path / "all", "reset_mid", "reset", nothing)
    await broken_links(tmp_path / "link", "reset=2000@50%")


async def test_21_slow_loris(tmp_path: Path) -> None:
    """A byte a second is no progress; bytes that never stop coming, and never end, run out of their time."""
    await broken_links(tmp_path / "idle", "throttle=1@1-4", timeout_s=0.2)
    await broken_links(tmp_path / "total", "throttle=50@1-4", timeout_s=0.1)
    for speed, timeout_s, cause in ((1, 0.2, "timeout_idle"), (50, 0.1, "timeout_total")):
        settings = MockSettings(tile_bytes=3000, faults=Faults(slow_body=SlowBody(speed)))
        async with MockServer(settings) as server:
            trial = Trial(server, tmp_path / cause, ONE_TILE)
            report = await trial.seed(retries=1, timeout_s=timeout_s)
            assert trial.requests == 2
            assert trial.letters() == [(cause, 2, b"")]
            await trial.resumed(report)
