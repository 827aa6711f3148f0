"""One trial of a fault scenario: seed an area from the lab's server, look at what came of it, repair, go on.

`check` is the invariant of every scenario (docs/faults.md): whatever happened, each planned tile is exactly
one of done, absent, dead, pending; done bytes are the origin's; the report's counts are the archive's.
"""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import tilehaul
from tilehaul.errors import FuseError
from tilehaul.jobs.stop import Stop
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.ports.events import Event, SeedReport, Watch

WORLD = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
ONE_TILE = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[0])
# Other luck for every scenario: TILEHAUL_SEED=5 pytest tests/e2e/scenarios
SEED = int(os.environ.get("TILEHAUL_SEED", "11"))


class Counts(Protocol):
    """What a report says of the planned tiles; `SeedReport` is one."""

    @property
    def state(self) -> str: ...
    @property
    def planned(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def absent(self) -> int: ...
    @property
    def dead(self) -> int: ...
    @property
    def pending(self) -> int: ...


Content = tuple[dict[tilehaul.TileId, bytes], dict[str, str]]


@dataclass
class Trial:
    """Runs of one job. `events` are those of the last run, `error` what ended it early."""

    server: MockServer | MockThread
    folder: Path
    area: tilehaul.Area = WORLD
    template: str = ""
    events: list[Event] = field(default_factory=list)
    error: FuseError | None = None

    def __post_init__(self) -> None:
        print(f"the server's seed is {SEED} (TILEHAUL_SEED)")  # shown when a test fails
        self.folder.mkdir(exist_ok=True)
        self.path = self.folder / "out.mbtiles"
        self.template = self.template or self.server.template

    @property
    def requests(self) -> int:
        return self.server.stats().requests

    async def seed(
        self,
        *,
        stop: Stop | None = None,
        watch: Watch | None = None,
        max_failures: int = 10_000,
        overwrite: bool = False,
        **sending: Any,
    ) -> SeedReport:
        """One run of the job, and the invariant after it. Sending: 8 at once, 12 retries, unless said."""
        self.events, self.error = [], None

        def tell(event: Event) -> None:
            self.events.append(event)
            if watch is not None:
                watch(event)

        options = tilehaul.SeedOptions(
            sending=tilehaul.Sending(**{"concurrency": 8, "retries": 12, **sending}),
            max_failures=tilehaul.FailureLimit(count=max_failures),
            overwrite=overwrite,
        )
        try:
            await tilehaul.seed(
                self.template, str(self.path), self.area, options=options, watch=tell, stop=stop
            )
        except FuseError as error:
            self.error = error
        report = self.events[-1]
        assert isinstance(report, SeedReport)
        self.check(report)
        return report

    def check(self, report: Counts) -> None:
        """The invariant, of the archive as it is and the report of the run that left it so."""
        planned = set(self.area)
        done, (noted, dead) = set(self.content()[0]), self.journal()
        absent = noted
        if report.state == "complete":
            # The journal is gone with the last pending tile: what is not there is not to be had.
            absent = planned - done
        assert not done & absent
        assert not done & dead
        assert not absent & dead
        assert done | absent | dead <= planned
        assert len(planned) == report.planned == report.done + report.absent + report.dead + report.pending
        assert (len(done), len(absent), len(dead)) == (report.done, report.absent, report.dead)
        for tile_id, body in self.content()[0].items():
            assert body == self.server.body_of(tile_id), f"{tile_id} is not what the origin has"
        assert all(self.server.is_absent(tile_id) for tile_id in absent)

    async def resumed(self, report: Counts, **sending: Any) -> None:
        """The faults have ended: go on, ask for what is not settled only, end as if nothing had been."""
        self.server.set_faults(Faults())
        before = self.requests
        unsettled = report.pending + report.dead
        again = await self.seed(**sending)
        assert again.state == "complete"
        assert self.requests - before == unsettled
        smooth = Trial(self.server, self.folder / "smooth", self.area, self.template)
        before = self.requests
        assert (await smooth.seed(**sending)).state == "complete"
        assert self.requests - before == len(set(self.area))
        assert self.content() == smooth.content()

    def content(self) -> Content:
        """Tiles, and what the archive says of itself."""
        if not self.path.exists():
            return {}, {}
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles")
            tiles = {tilehaul.TileId(z, x, (1 << z) - 1 - row): body for z, x, row, body in rows}
            return tiles, dict(connection.execute("SELECT name, value FROM metadata"))

    def journal(self) -> tuple[set[tilehaul.TileId], set[tilehaul.TileId]]:
        """Absent and dead tiles, as journalled."""
        with closing(sqlite3.connect(self.path)) as connection:
            if not connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'tilehaul_outcome'"
            ).fetchall():
                return set(), set()
            rows = connection.execute("SELECT z, x, y, state FROM tilehaul_outcome").fetchall()
        return (
            {tilehaul.TileId(z, x, y) for z, x, y, state in rows if state == 2},
            {tilehaul.TileId(z, x, y) for z, x, y, state in rows if state == 3},
        )

    def letters(self) -> list[tuple[str, int, bytes]]:
        """Cause, attempts and the head of the body of each dead letter, in tile order."""
        with closing(sqlite3.connect(self.path)) as connection:
            query = "SELECT cause, attempts, body_head FROM tilehaul_dead_letter ORDER BY z, x, y"
            return connection.execute(query).fetchall()

    def told(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]
