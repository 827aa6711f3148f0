"""The mock server's thinking: luck, words, scripts, limits and counters, all without a socket."""

import math
import statistics
import zlib

import pytest

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.absence import Absence, parse_absence
from tilehaul.lab.fault_words import parse_fault_change, parse_retry_after
from tilehaul.lab.faults import (
    KINDS,
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
from tilehaul.lab.plain_png import PLAIN_BYTES_MIN, plain_png
from tilehaul.lab.script import Timeline, parse_script, read_script
from tilehaul.lab.tile_bodies import ENTRY_BYTES, TileBodies, TileBody
from tilehaul.lab.traffic import ServiceQueue, Tally, TokenBucket, burst_left_s
from tilehaul.lab.wreckage import flip_bit, wait_header

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


def test_words_become_faults():
    """Everything that can be written down arrives in the value, in texts, lists and mappings alike."""
    words = {
        "latency_ms": "80",
        "jitter_ms": 20,
        "errors": "500:0.02, 503:0.03",
        "retry_after": "date:3",
        "rate_limit": "100",
        "burst": "20",
        "burst_429": "30:5",
        "truncate": ["short-length:0.01", "bit_flip:0.02"],
        "faults": {"wrong_tile": 0.03},
        "reset": "before:0.04",
        "xml_200": 0.05,
        "xml_as_png": 0.06,
        "html_200": 0.07,
        "empty": 0.08,
        "black_hole": 0.09,
        "slow_body": "1000:0.5",
        "capacity": "8:40:16",
    }
    assert parse_fault_change(words).on(Faults()) == Faults(
        latency=Latency(80, 20, "normal"),
        errors={500: 0.02, 503: 0.03},
        shares={
            "short_length": 0.01,
            "bit_flip": 0.02,
            "wrong_tile": 0.03,
            "reset_before": 0.04,
            "xml_200": 0.05,
            "xml_as_png": 0.06,
            "html_200": 0.07,
            "empty_200": 0.08,
            "black_hole": 0.09,
        },
        retry_after=RetryAfter("date", 3.0),
        rate_limit=RateLimit(100, 20),
        burst_429=Bursts(30, 5),
        capacity=Capacity(8, 40, 16),
        slow_body=SlowBody(1000, 0.5),
    )
    assert parse_fault_change({"reset": 0.5}).on(Faults()).shares == {"reset_mid": 0.5}
    assert parse_fault_change({}).on(Faults()) == Faults()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"latencyms": 5}, "did you mean latency_ms"),
        ({"errors": "500"}, "STATUS:SHARE"),
        ({"errors": "five:0.1"}, "number is wanted"),
        ({"errors": "500.5:0.1"}, "whole number"),
        ({"truncate": "cut_chunkd:0.1"}, "did you mean cut_chunked"),
        ({"truncate": "xml_200:0.1"}, "short_length"),
        ({"burst": 5}, "without rate_limit"),
        ({"capacity": "8"}, "SERVERS:SERVICE_MS"),
        ({"reset": "after:0.1"}, "mid:SHARE"),
        ({"slow_body": "fast"}, "number is wanted"),
        ({"latency_ms": 5, "latency_distribution": "lognormol"}, "did you mean lognormal"),
        ({"html_200": "nan"}, "number is wanted"),
        ({"html_200": 0.7, "xml_200": 0.7}, "1.4"),
        ({"retry_after": "tomorrow"}, "retry_after"),
        ({"retry_after": -5}, "raw:TEXT"),
    ],
)
def test_words_that_mean_nothing_are_refused(words, says):
    """The message names the setting and what would be right."""
    with pytest.raises(ConfigError, match=says):
        parse_fault_change(words)


def test_retry_after_forms_and_what_they_announce():
    """Seconds round up, dates round up from the server's clock, garbage announces nothing."""
    wall_s = (
        784_111_777.25  # Sun, 06 Nov 1994 08:49:37.25 GMT (the example of RFC 9110, 5.6.7, and a quarter)
    )
    assert wait_header(parse_retry_after(1.2), wall_s) == ("2", 2.0)
    assert wait_header(parse_retry_after("date:2"), wall_s) == ("Sun, 06 Nov 1994 08:49:40 GMT", 2.75)
    assert wait_header(parse_retry_after("raw:-5"), wall_s) == ("-5", 0.0)
    assert wait_header(parse_retry_after("none"), wall_s) == ("", 0.0)
    header, announced_s = wait_header(parse_retry_after("garbage"), wall_s)
    assert (header.isdigit(), announced_s) == (False, 0.0)
    assert header


def test_absence_is_for_good_and_counts():
    """The share comes true over many tiles, and the words for it arrive."""
    absence = Absence(share=0.25)
    gone = [tile_id for tile_id in TILES if absence.covers(tile_id, 5)]
    assert len(gone) / len(TILES) == pytest.approx(0.25, abs=0.02)
    assert gone == [tile_id for tile_id in TILES if absence.covers(tile_id, 5)]
    assert parse_absence("0.25:204") == Absence(share=0.25, status=204)
    deep = parse_absence("zoom > 6")
    assert [deep.covers(TileId(z, 0, 0), 0) for z in (6, 7)] == [False, True]
    assert Absence(when=lambda tile_id: tile_id.x == 3).covers(TileId(5, 3, 1), 0)
    for text in ("much", "zoom>x", "0.1:200"):
        with pytest.raises(ConfigError, match="absent"):
            parse_absence(text)


def test_script_holds_from_at_for_its_time_and_later_steps_win():
    """Before, inside, overlapping, after: each moment has the settings that were written for it."""
    script = parse_script(
        """
        - {at: 10, for: 20, errors: "503:0.5", retry_after: 2}
        - {at: 20, for: 5, errors: {500: 0.25}, latency_ms: 40}
        - {at: 60, black_hole: 1}
        """
    )
    base = Faults(latency=Latency(5))
    timeline = Timeline(script, base)
    seen = {
        second: timeline.faults(timeline.part(second)) for second in (0, 9.99, 10, 19.9, 20, 25, 30, 60, 1e9)
    }
    storm = Faults(latency=Latency(5), errors={503: 0.5}, retry_after=RetryAfter(delay_s=2))
    both = Faults(Latency(40), errors={503: 0.5, 500: 0.25}, retry_after=RetryAfter(delay_s=2))
    dead = Faults(latency=Latency(5), shares={"black_hole": 1})
    assert seen == {
        0: base, 9.99: base, 10: storm, 19.9: storm, 20: both, 25: storm, 30: base, 60: dead, 1e9: dead,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a list of steps"),
        ("at: 5", "a list of steps"),
        ("- [", "not YAML"),
        ("- 5", "step 1: a mapping"),
        ("- {at: 1, errors: '503:1'}\n- {for: 5, empty: 1}", "step 2: `at`"),
        ("- {at: -1, empty: 1}", "step 1: `at` must be"),
        ("- {at: 1, for: 0, empty: 1}", "step 1: `at` must be"),
        ("- {at: 1}", "step 1: it changes nothing"),
        ("- {at: 1, latency: 5}", "step 1: no setting 'latency'; did you mean latency_ms"),
        ("- {at: soon, empty: 1}", "step 1: at: a number"),
        ("- {at: 1, errors: '503:2'}", "step 1: errors"),
    ],
)
def test_script_errors_name_step_and_key(text, says):
    """A wrong script says where and what."""
    with pytest.raises(ConfigError, match=says):
        parse_script(text)


def test_script_sum_over_one_is_refused_with_its_moment(tmp_path):
    """Steps that are fine alone but not together are found before anything runs; files are named."""
    path = tmp_path / "faults.yaml"
    path.write_text("- {at: 1, errors: '503:0.7'}\n- {at: 8, errors: '500:0.7'}\n")
    with pytest.raises(ConfigError, match=r"at 8 s: .* 1\.4"):
        Timeline(read_script(path), Faults())
    path.write_text("- {at: 1}\n")
    with pytest.raises(ConfigError, match=r"faults\.yaml: script, step 1"):
        read_script(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_script(tmp_path / "none.yaml")


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


def test_kinds_are_all_reachable_by_words():
    """No fault exists that cannot be asked for on the command line."""
    for kind in KINDS:
        assert parse_fault_change({"faults": f"{kind}:1"}).on(Faults()).shares == {kind: 1.0}
