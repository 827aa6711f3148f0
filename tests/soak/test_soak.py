"""The soak in small, and that its judgement can fail. `make soak` is the real one."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from soak.evidence import Evidence
from soak.lives import Ended
from soak.one_run import check_evidence, check_report, run
from soak.schedule import TILES_MAX, TILES_MIN, Life, draw
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.events import SeedReport

SEED = 20261122
A, B, C = TileId(1, 0, 0), TileId(1, 0, 1), TileId(1, 1, 0)
KILLED = Life("kill", 40, 0.0, None)
CANCELLED = Life("cancel", 30, 0.0, None)
DRAINED = Life("drain", 20, 0.0, 0.0)


def test_random_faults_and_ends_lose_nothing() -> None:
    """Three runs of what `make soak` does by the hundred, at once because they mostly wait."""
    wanted = [
        (0, {"store": "mbtiles", "lives": (KILLED,)}),
        (1, {"store": "directory", "lives": (CANCELLED, DRAINED)}),
        (2, {"store": "directory", "lives": (KILLED,), "link": ("reset=500@20%",)}),
    ]
    schedules = [dataclasses.replace(draw(SEED, number), **more) for number, more in wanted]  # type: ignore[arg-type]
    with ThreadPoolExecutor(len(schedules)) as pool:
        for result in pool.map(run, schedules):
            assert result.failure == "", f"seed {SEED}, number {result.number}"
            assert result.requests >= result.planned >= TILES_MIN
            assert None in result.codes or 130 in result.codes, "no life was ended early"


def test_schedule_follows_from_its_two_numbers() -> None:
    assert draw(SEED, 7) == draw(SEED, 7)
    assert len({repr(draw(SEED, number)) for number in range(50)}) == 50
    for number in range(50):
        assert TILES_MIN <= draw(SEED, number).area.count() <= TILES_MAX


def test_evidence_that_lies_is_found_out() -> None:
    """Each clause of the judgement fails for the store that breaks it."""

    def judged(found: Evidence) -> None:
        check_evidence(found, [A, B, C], {B}, lambda tile_id: str(tile_id).encode())

    judged(Evidence(done={A: b"1/0/0"}, absent={B}, dead={C}))
    judged(Evidence(strays={A: b"1/0/0"}))
    for wrong, words in [
        (Evidence(wrong=["in two states at once"]), "two states"),
        (Evidence(done={A: b"1/0"}), "not the origin's"),
        (Evidence(strays={A: b""}), "not the origin's"),
        (Evidence(absent={A}), "the origin has them"),
        (Evidence(dead={TileId(2, 0, 0)}), "nobody planned"),
    ]:
        with pytest.raises(AssertionError, match=words):
            judged(wrong)


def report_of(state: str, **counts: int) -> SeedReport:
    names = [field.name for field in dataclasses.fields(SeedReport)]
    values: dict[str, object] = dict.fromkeys(names, 0) | {"state": state, "source": "", "store": ""} | counts
    return SeedReport(**values)  # type: ignore[arg-type]


def test_report_that_lies_is_found_out() -> None:
    found = Evidence(done={A: b""}, dead={C})
    whole = report_of("dead_letters", planned=3, done=1, absent=0, dead=1, pending=1)
    check_report(
        Ended(130, dataclasses.replace(whole, state="interrupted")), found, 3, settled=0, may_be_early=True
    )
    for code, report, words in [
        (3, whole, "pending"),
        (0, whole, "exit 0"),
        (130, dataclasses.replace(whole, state="interrupted"), "nobody asked"),
        (4, dataclasses.replace(whole, state="stopped", pending=0), "counted"),
        (4, dataclasses.replace(whole, state="stopped", done=2, pending=0), "kept"),
        (3, dataclasses.replace(whole, dead=0, absent=0, pending=2), "pending"),
        (4, dataclasses.replace(whole, state="stopped", skipped=1), "0 fetched"),
        (0, None, "without a report"),
    ]:
        with pytest.raises(AssertionError, match=words):
            check_report(Ended(code, report), found, 3, settled=0, may_be_early=False)


def test_soak_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run cleans up after itself, also when it fails."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    schedule = dataclasses.replace(draw(SEED, 0), lives=(), max_failures="nonsense")
    with pytest.raises(Exception, match="nonsense"):
        run(schedule)
    assert list(tmp_path.iterdir()) == []
