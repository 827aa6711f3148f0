"""One soak run: what must hold after every life of the job, and at its end."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from soak.evidence import Evidence, read
from soak.link import ProxyThread
from soak.lives import CODES, Ended, replay, run_call, run_program
from soak.schedule import SCRIPT_S, Life, Schedule
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.traffic import MockStats

# A job that the weather stops is begun again this often before the server is repaired.
TRIES_MAX = 3


@dataclass(slots=True)
class Result:
    """Figures of one run, or why it failed."""

    number: int
    planned: int = 0
    failure: str = ""
    codes: list[int | None] = field(default_factory=list)
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    inside: int = 0
    inside_allowed: int = 0
    committed_early: int = 0
    elapsed_s: float = 0.0


def run(schedule: Schedule) -> Result:
    """Carry a schedule out. What does not hold is in the result's `failure`."""
    result = Result(schedule.number)
    begun_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        with MockThread(schedule.server) as server, ProxyThread(server.base_url, schedule) as proxy:
            _Run(schedule, folder, server, proxy, result).all_lives()
    except AssertionError as error:
        result.failure = str(error)
    finally:
        shutil.rmtree(folder)
    result.elapsed_s = time.monotonic() - begun_s
    return result


class _Run:
    def __init__(
        self, schedule: Schedule, folder: Path, server: MockThread, proxy: ProxyThread, result: Result
    ) -> None:
        self.schedule, self.server, self.proxy, self.result = schedule, server, proxy, result
        self.planned = list(schedule.area)
        self.absent = {tile_id for tile_id in self.planned if server.is_absent(tile_id)}
        self.store = folder / ("out.mbtiles" if schedule.store == "mbtiles" else "out")
        self.template = proxy.url_of(server.template) if schedule.link else server.template
        # How often a committed tile had been asked for when it was first seen committed.
        self.asked_at_commit: dict[TileId, int] = {}
        result.planned = len(self.planned)

    def all_lives(self) -> None:
        begun_s = time.monotonic()
        ended = None
        for life in self.schedule.lives:
            ended = self._live(life)
            if ended.code == CODES["complete"]:
                break
        self.result.committed_early = len(self.asked_at_commit)
        for _ in range(TRIES_MAX):
            if ended is None or ended.code in (None, CODES["stopped"], CODES["interrupted"]):
                ended = self._live(None)
        # The repair: the script has come to its end, and what was wrong from the start is mended.
        time.sleep(max(0.0, begun_s + SCRIPT_S - time.monotonic()))
        self.result.faults.update(self.server.stats().by_fault)
        self.result.faults.update({f"link_{kind}": count for kind, count in self.proxy.by_fault().items()})
        self.server.set_faults(Faults())
        self.proxy.repair()
        dead = len(read(self.store).dead)
        self.result.replayed = dead
        if dead and self.schedule.replay:
            self._replay(dead)
        last = self._live(None)
        need(last.code == CODES["complete"], f"after the repair: exit {last.code}, {last.said}")
        self._check_end()

    def _live(self, life: Life | None) -> Ended:
        before = self.server.stats()
        if life is None:
            ended = run_call(self.schedule, self.template, self.store, self.server)
        elif life.end in ("cancel", "drain"):
            ended = run_call(self.schedule, self.template, self.store, self.server, life)
        else:
            ended = run_program(self.schedule, self.template, self.store, self.server, life)
        self.result.codes.append(ended.code)
        need(ended.code in (None, *CODES.values()), f"exit code {ended.code}: {ended.said}")
        found = self._read()
        need(
            found.complete == (ended.code == 0) or ended.code is None, f"exit {ended.code}, {found.complete=}"
        )
        check_evidence(found, self.planned, self.absent, self._body_of)
        settled = len(self.asked_at_commit)
        check_report(ended, found, len(self.planned), settled=settled, may_be_early=life is not None)
        self._check_manners(before, self.server.stats())
        self._note(found)
        return ended

    def _read(self) -> Evidence:
        found = read(self.store)
        if found.complete:
            need(not found.absent, "a complete store keeps no journal")
            found.absent = set(self.planned) - found.done.keys()
        return found

    def _note(self, found: Evidence) -> None:
        """Remember what is committed; nothing that was may be gone."""
        committed = found.done.keys() | found.absent
        for tile_id in committed - self.asked_at_commit.keys():
            self.asked_at_commit[tile_id] = self.server.requests_of(tile_id)
        missing = self.asked_at_commit.keys() - committed
        need(not missing, f"committed once and gone: {sorted(missing)[:3]}")

    def _replay(self, dead: int) -> None:
        """Every dead tile comes back, for one request each."""
        before = self.server.stats().requests
        report = replay(self.template, self.store)
        need(report.state == "complete", f"the replay ended {report.state}")
        need(report.planned == dead, f"{report.planned} tiles replayed, {dead} were dead")
        found = self._read()
        need(not found.dead, "dead after the replay")
        self._note(found)
        requests = self.server.stats().requests - before
        need(requests == dead, f"{requests} requests for {dead} dead tiles")

    def _body_of(self, tile_id: TileId) -> bytes:
        return self.server.body_of(tile_id)

    def _check_manners(self, before: MockStats, after: MockStats) -> None:
        """Inside a Retry-After come only requests that were on their way when it was sent: at most those
        in flight, and the ones whose turn came with the answers that arrived in the same moment.
        """
        if before.wait_left_s > 0:
            return  # the life began inside a wait of which only the life before it was told
        inside = after.inside_retry_after - before.inside_retry_after
        allowed = 2 * self.schedule.concurrency * (after.waits_announced - before.waits_announced)
        self.result.inside += inside
        self.result.inside_allowed += allowed
        need(inside <= allowed, f"{inside} requests inside Retry-After, at most {allowed} could be in flight")

    def _check_end(self) -> None:
        found = read(self.store)
        need(not found.dead, f"dead after the repair: {sorted(found.dead)[:3]}")
        need(len(found.done) == len(self.planned) - len(self.absent), "not every tile is there")
        need(not found.strays, "files that nobody vouches for")
        again = {
            tile_id: self.server.requests_of(tile_id) - count
            for tile_id, count in self.asked_at_commit.items()
            if self.server.requests_of(tile_id) != count
        }
        need(not again, f"asked again after it was committed: {dict(list(again.items())[:3])}")
        requests = self.server.stats().requests
        self.result.requests = requests
        once_more = run_call(self.schedule, self.template, self.store, self.server)
        need(once_more.code == CODES["complete"], f"the same job again: exit {once_more.code}")
        need(self.server.stats().requests == requests, "the same job on a complete store sent requests")
        left = {path.name for path in self.store.parent.iterdir()}
        allowed = {self.store.name, f"{self.store.name}.journal"}
        need(left <= allowed, f"left behind: {sorted(left - allowed)}")


def need(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not condition:
        raise AssertionError(message)


def check_evidence(
    found: Evidence,
    planned: list[TileId],
    absent: set[TileId],
    body_of: Callable[[TileId], bytes],
) -> None:
    """Every tile in one state at most, and that state true; pending is what is in none."""
    need(not found.wrong, "; ".join(found.wrong))
    known = found.done.keys() | found.absent | found.dead | found.strays.keys()
    need(known <= set(planned), "tiles that nobody planned")
    lies = found.absent - absent
    need(not lies, f"recorded as absent, and the origin has them: {sorted(lies)[:3]}")
    for tile_id, body in (*found.done.items(), *found.strays.items()):
        need(body == body_of(tile_id), f"{tile_id} is not the origin's, {len(body)} bytes kept")


def check_report(ended: Ended, found: Evidence, planned: int, *, settled: int, may_be_early: bool) -> None:
    """What the job said of itself is what lies in the store; `settled` tiles were done or absent before."""
    report = ended.report
    if report is None:
        need(ended.code is None, f"exit {ended.code} without a report: {ended.said}")
        return
    need(CODES[report.state] == ended.code, f"state {report.state}, exit {ended.code}")
    total = report.done + report.absent + report.dead + report.pending
    need(report.planned == planned == total, f"{total} counted of {planned}: {report}")
    fetched, kept = report.done + report.absent - report.skipped, len(found.done) + len(found.absent)
    need(fetched == kept - settled, f"said {fetched} fetched, kept {kept} after {settled}")
    # What an earlier life settled, or left dead, is pending for one that ended before it came to it.
    need(report.dead <= len(found.dead), f"said {report.dead} dead, kept {len(found.dead)}")
    if ended.code in (CODES["complete"], CODES["dead_letters"]):
        counts = (report.done, report.absent)
        need(counts == (len(found.done), len(found.absent)), f"said {counts}, kept {len(found.done)}")
        need(report.pending == 0, f"{report.state} with {report.pending} pending")
        need(report.dead == len(found.dead), f"said {report.dead} dead, kept {len(found.dead)}")
    need(may_be_early or ended.code != CODES["interrupted"], "interrupted, and nobody asked for it")
