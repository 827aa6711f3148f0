"""The thinking of the mock server: luck, limits, counters and the bytes of plain tiles, no socket."""

import math
import statistics
import sys
import zlib

import pytest

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import (
    Bursts,
    Capacity,
    Faults,
    Judge,
    Latency,
    RateLimit,
    RetryAfter,
    SlowBody,
    luck,
)
from tilehaul.lab.plain_png import BLANK_PNG, PLAIN_BYTES_MIN, plain_png
from tilehaul.lab.tile_bodies import ENTRY_BYTES, TileBodies, TileBody
from tilehaul.lab.traffic import ServiceQueue, Tally, TokenBucket, burst_left_s
from tilehaul.lab.wreckage import flip_bit

TILES = [TileId(8, x, y) for x in range(64) for y in range(64)]


def chunks_of(png):
    """(name, content, whether the CRC fits) of every chunk."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, []
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        name, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        crc = int.from_bytes(png[at + 8 + length : at + 12 + length], "big")
        found.append((name, content, crc == zlib.crc32(name + content)))
        at += 12 + length
    assert at == len(png)
    return found


def test_plain_png_is_whole_and_names_its_address():
    """Every CRC fits, the pixels inflate to 256 rows, the address is in tEXt, the size is exact."""
    for size_bytes in (0, PLAIN_BYTES_MIN, 20_000, 200_000):
        body = plain_png(TileId(3, 4, 2), size_bytes=size_bytes)
        chunks = chunks_of(body)
        assert all(fits for _, _, fits in chunks)
        named = {name: content for name, content, _ in chunks}
        assert named[b"tEXt"] == b"Title\x003/4/2"
        assert len(zlib.decompress(named[b"IDAT"])) == 256 * (1 + 32)
        assert len(body) == size_bytes or size_bytes == 0
    deepest = plain_png(TileId(30, 2**30 - 1, 2**30 - 1), size_bytes=PLAIN_BYTES_MIN)
    assert len(deepest) == PLAIN_BYTES_MIN
    assert len({plain_png(tile_id, size_bytes=4000) for tile_id in TILES[:500]}) == 500


def test_blank_png_is_whole_and_shows_nothing():
    """Every CRC fits, all pixels are the one colour, and that is transparent."""
    named = {name: content for name, content, fits in chunks_of(BLANK_PNG) if fits}
    assert list(named) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    assert zlib.decompress(named[b"IDAT"]) == bytes(256 * 33)
    assert named[b"tRNS"] == b"\x00"


def test_flip_bit_breaks_the_crc_of_the_picture_data():
    """One bit differs, and it is the IDAT chunk that no longer checks, padding or not."""
    for size_bytes in (0, 9000):
        body = plain_png(TileId(3, 4, 2), size_bytes=size_bytes)
        broken = flip_bit(body)
        assert sum((a ^ b).bit_count() for a, b in zip(body, broken, strict=True)) == 1
        assert [name for name, _, fits in chunks_of(broken) if not fits] == [b"IDAT"]


@pytest.mark.parametrize(
    ("latency", "mean_ms", "deviation_ms"),
    [
        (Latency(80), 80, 0),
        (Latency(80, 40, "uniform"), 80, 40 / math.sqrt(3)),
        (Latency(80, 10, "normal"), 80, 10),
        (Latency(80, 60, "lognormal"), 80, 60),
    ],
)
def test_latency_has_its_mean_and_deviation(latency, mean_ms, deviation_ms):
    """Drawn over an even grid of chances the figures are those asked for."""
    drawn_ms = [1000 * latency.draw_s((n + 0.5) / 20_000) for n in range(20_000)]
    assert statistics.fmean(drawn_ms) == pytest.approx(mean_ms, rel=0.01)
    assert statistics.pstdev(drawn_ms) == pytest.approx(deviation_ms, rel=0.03, abs=0.01)
    assert min(drawn_ms) >= 0


def test_latency_heavy_tail_has_minimum_and_bounded_tail():
    """Never below the minimum, the median at 2^(2/3) of it, the worst case cut at a minute."""
    tail = Latency(10, 0, "heavy_tail")
    assert tail.draw_s(0.0) == pytest.approx(0.010)
    assert tail.draw_s(0.5) == pytest.approx(0.010 * 2 ** (1 / 1.5))
    assert tail.draw_s(0.999) > 0.9
    assert tail.draw_s(1 - 1e-16) == 60.0
    assert Latency(5, 50, "normal").draw_s(0.0) == 0.0


def test_judge_shares_come_true_and_seeds_differ():
    """Over 4,096 tiles each share is met within four deviations, in any order; other seeds, other tiles."""
    faults = Faults(errors={500: 0.05, 503: 0.1}, shares={"xml_200": 0.2, "bit_flip": 0.05})
    judge = Judge(faults, 1)
    verdicts = {tile_id: judge.decide(tile_id, 1) for tile_id in TILES}
    for wanted, share in ((500, 0.05), (503, 0.1)):
        assert sum(v.status == wanted for v in verdicts.values()) / len(TILES) == pytest.approx(
            share, abs=0.02
        )
    for kind, share in faults.shares.items():
        assert sum(v.kind == kind for v in verdicts.values()) / len(TILES) == pytest.approx(share, abs=0.025)
    again = Judge(Faults(errors={503: 0.1, 500: 0.05}, shares={"bit_flip": 0.05, "xml_200": 0.2}), 1)
    assert {tile_id: again.decide(tile_id, 1) for tile_id in reversed(TILES)} == verdicts
    other = Judge(faults, 2)
    assert {tile_id: other.decide(tile_id, 1) for tile_id in TILES} != verdicts
    assert [judge.decide(TILES[0], n) for n in range(1, 50)] != [
        judge.decide(TILES[1], n) for n in range(1, 50)
    ]


def test_judge_certain_fault_always_happens():
    """A share of 1 leaves no way out; a share of 0 none in."""
    judge = Judge(Faults(shares={"html_200": 1.0, "xml_200": 0.0}, slow_body=SlowBody(10, 1.0)), 9)
    assert {judge.decide(tile_id, 1).kind for tile_id in TILES[:200]} == {"html_200"}
    assert judge.decide(TILES[0], 1).bytes_per_s == 10
    assert all(0 <= luck(seed, "x", "1/2/3", 1) < 1 for seed in range(100))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Faults(errors={200: 0.1}), "400 to 599"),
        (lambda: Faults(errors={500: 1.5}), "0 to 1"),
        (lambda: Faults(shares={"nonsense": 0.1}), "nonsense"),
        (lambda: Faults(errors={500: 0.6}, shares={"xml_200": 0.6}), "1.2"),
        (lambda: Latency(-1), "latency_ms"),
        (lambda: Latency(10, 5, "fixed"), "jitter_ms"),
        (lambda: Latency(0, 5, "lognormal"), "lognormal"),
        (lambda: RateLimit(0), "rate_limit"),
        (lambda: RateLimit(5, 0), "burst"),
        (lambda: Bursts(5, 6), "burst_429"),
        (lambda: Capacity(0, 5), "capacity"),
        (lambda: SlowBody(0), "slow_body"),
        (lambda: RetryAfter("raw", text="a\r\nb"), "retry_after"),
        (lambda: Absence(share=2), "absent"),
        (lambda: Absence(status=403), "404 or 204"),
        (lambda: TileBodies("painted", tile_bytes=9000, cache_bytes_max=1), "tile_bytes"),
        (lambda: TileBodies("plain", tile_bytes=10, cache_bytes_max=1), "tile_bytes"),
        (lambda: TileBodies("satellite", tile_bytes=0, cache_bytes_max=1), "imagery"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, says):
    """Each bad value is a ConfigError that names what is wrong."""
    with pytest.raises(ConfigError, match=says):
        make()


def test_token_bucket_gives_the_burst_then_the_rate():
    """Five at once, then one every tenth of a second; who waits as told is served."""
    bucket = TokenBucket(RateLimit(10, 5), 100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [0.0] * 5
    wait_s = bucket.take(100.0)
    assert wait_s == pytest.approx(0.1)
    assert bucket.take(100.0 + wait_s / 2) == pytest.approx(0.05)
    assert bucket.take(100.0 + wait_s) == 0.0
    assert sum(bucket.take(200.0) == 0.0 for _ in range(9)) == 5


def test_bursts_come_at_the_end_of_each_period():
    """Good for 25 s, bad for 5 s, and the time left is exact."""
    bursts = Bursts(30, 5)
    assert [burst_left_s(bursts, t) for t in (0, 24.9, 25, 29, 30, 55, 61)] == [0, 0, 5, 1, 0, 5, 0]


def test_service_queue_serves_in_turn_and_refuses_when_full():
    """Two workers of 100 ms and two places: the fifth at once is refused; later there is room again."""
    queue = ServiceQueue(Capacity(2, 100, queue_max=2))
    waits = [queue.enter(50.0) for _ in range(5)]
    assert waits == [pytest.approx(w) for w in (0.1, 0.1, 0.2, 0.2)] + [None]
    assert queue.waiting_peak == 2
    assert queue.enter(50.1001) == pytest.approx(0.2, abs=0.001)
    assert queue.enter(60.0) == pytest.approx(0.1)


def test_missing_extras_name_the_way_to_get_them(monkeypatch):
    """Without Pillow no pictures, without the Blue Marble no imagery; plain tiles need neither."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "PIL", None)
        for name in ("mercator_cut", "paint"):
            patch.delitem(sys.modules, f"tilehaul.pixels.{name}", raising=False)
        for tiles in ("painted", "imagery"):
            with pytest.raises(ConfigError, match=r"pip install 'tilehaul\[demo\]'"):
                TileBodies(tiles, tile_bytes=0, cache_bytes_max=1)
        assert TileBodies("plain", tile_bytes=0, cache_bytes_max=1).make(TileId(0, 0, 0), "png").body
    pytest.importorskip("PIL")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"Blue Marble.*tilehaul\[demo\]"):
        TileBodies("imagery", tile_bytes=0, cache_bytes_max=1)


def test_tally_counts_beyond_its_limit_without_growing(monkeypatch):
    """Addresses over the limit are counted together."""
    monkeypatch.setattr("tilehaul.lab.traffic.TILES_COUNTED_MAX", 3)
    tally = Tally()
    for number in (0, 1, 2, 3, 4, 0):
        tally.arrive(TileId(9, number, 0), 1.0)
    stats = tally.freeze(1.0, queue_peak=0)
    assert (stats.tiles_seen, stats.tiles_uncounted, stats.max_per_tile) == (3, 2, 2)


def test_tile_cache_stays_within_its_bytes():
    """The longest unused goes first, and the count of bytes is true."""
    bodies = TileBodies("plain", tile_bytes=1000, cache_bytes_max=3 * (1000 + ENTRY_BYTES))
    for x in range(3):
        bodies.keep(TileId(4, x, 0), "png", bodies.make(TileId(4, x, 0), "png"))
    assert isinstance(bodies.find(TileId(4, 0, 0), "png"), TileBody)
    bodies.keep(TileId(4, 3, 0), "png", bodies.make(TileId(4, 3, 0), "png"))
    kept = [x for x in range(4) if bodies.find(TileId(4, x, 0), "png")]
    assert kept == [0, 2, 3]
    assert bodies.cache_bytes == 3 * (1000 + ENTRY_BYTES)
