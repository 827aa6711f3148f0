"""Faults, absence and scripts as people write them."""

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
    Latency,
    RateLimit,
    RetryAfter,
    SlowBody,
)
from tilehaul.lab.script import Timeline, parse_script, read_script
from tilehaul.lab.wreckage import wait_header

TILES = [TileId(8, x, y) for x in range(64) for y in range(64)]


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


def test_kinds_are_all_reachable_by_words():
    """No fault exists that cannot be asked for on the command line."""
    for kind in KINDS:
        assert parse_fault_change({"faults": f"{kind}:1"}).on(Faults()).shares == {kind: 1.0}
