"""What a person sees of a running job: a bar on a terminal, JSON lines on request, a report at the end."""

import json
import shutil
import sys
import threading
from collections.abc import Mapping
from math import inf
from typing import Any, TextIO

from tilehaul.cli.common import colour_wanted, plural, size_text
from tilehaul.policy.causes import CauseClass
from tilehaul.policy.gate import span_text
from tilehaul.ports.events import Event, JobStarted, LaneHeld, Progress, SeedReport, record_of

# A gate shorter than this is told by the bar alone.
HELD_TOLD_S = 5.0


class Watcher:
    """Receives a job's events. `quiet` shows errors only; `as_json` puts events on standard output.

    `max_wait_s` is how long the job waits for an upstream: nothing is promised beyond it.
    `ended` is set when the report has been shown.
    """

    def __init__(
        self, *, quiet: bool, as_json: bool, max_wait_s: float = inf, stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._json = as_json
        self._max_wait_s = max_wait_s
        self._shown = not quiet and not as_json
        self._bar_wanted = self._shown and self._stream.isatty()
        self._bar: Any = None  # a tqdm, imported only when a bar is drawn
        self.report: SeedReport | None = None
        self.ended = threading.Event()

    def __call__(self, event: Event) -> None:
        self._show(event)
        if isinstance(event, SeedReport):
            self.report = event
            self.ended.set()

    def _show(self, event: Event) -> None:
        if self._json:
            print(json.dumps(record_of(event)), flush=True)
        if isinstance(event, JobStarted) and event.note:
            self.say(f"{event.source}: {event.note}")
        elif isinstance(event, Progress):
            self._draw(event)
        elif isinstance(event, LaneHeld):
            self._held(event)
        elif isinstance(event, SeedReport):
            if self._bar is not None:
                words = f"{event.rate_per_s:,.0f} tiles/s, {size_text(event.bytes)}"
                self._bar.set_postfix_str(words, refresh=False)
                self._bar.update(event.planned - event.pending - self._bar.n)
            self.close()

    def say(self, line: str) -> None:
        """A line for people, above the bar if there is one."""
        if self._shown:
            self._write(line)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)

    def _held(self, event: LaneHeld) -> None:
        wait = span_text(event.delay_s)
        said = event.reason or f"asks us to wait {wait}"
        if event.delay_s > self._max_wait_s:
            patience = span_text(self._max_wait_s)
            self.say(f"{event.lane} {said}; this job waits no longer than {patience} (--max-wait)")
        elif event.reason:
            self.say(f"{event.lane} {said}; next try in {wait}, nothing is lost")
        elif event.delay_s >= HELD_TOLD_S:
            self.say(f"{event.lane} {said}; waiting, nothing is lost")

    def _begin(self, planned: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=planned,
            unit=" tiles",
            file=self._stream,
            # A terminal may say that it is 0 columns wide; the bar would be blank lines.
            ncols=shutil.get_terminal_size((80, 24)).columns,
            # The rate is the job's own: tqdm's would count the tiles of an earlier run as fetched now.
            bar_format="{percentage:3.0f} % {bar} {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
            colour="cyan" if colour_wanted() else None,
        )

    def _draw(self, progress: Progress) -> None:
        if not self._bar_wanted:
            return
        if self._bar is None:
            self._begin(progress.planned)
        bar = self._bar
        words = [f"{progress.rate_per_s:,.0f} tiles/s", size_text(progress.bytes)]
        left = progress.planned - progress.done - progress.absent - progress.dead
        if progress.rate_per_s > 0 and left > 0:
            words.append(f"{duration_text(left / progress.rate_per_s)} left")
        if progress.unchanged:
            words.append(f"{progress.unchanged:,} unchanged")
        if progress.absent:
            words.append(f"{progress.absent:,} absent")
        if progress.retried:
            words.append(f"{progress.retried:,} retried")
        if progress.dead:
            words.append(f"{progress.dead:,} dead")
        bar.set_postfix_str(", ".join(words), refresh=False)
        ended = progress.done + progress.absent + progress.dead
        bar.update(ended - bar.n)
        bar.refresh()


def duration_text(seconds: float) -> str:
    """7 -> "7 s", 200 -> "3 min", 9000 -> "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _counts_text(counts: Mapping[CauseClass, int]) -> str:
    """{"server": 12, "timeout": 3} -> "12 server, 3 timeout", the most first."""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} {cause}" for cause, count in ordered)


def summary_line(report: SeedReport) -> str:
    """The one line that every job ends with, on standard error."""
    words = [f"{report.done:,} of {plural(report.planned, 'tile')} done"]
    if report.skipped:
        words.append(f"{report.skipped:,} settled before")
    if report.unchanged:
        words.append(f"{report.unchanged:,} unchanged")
    words.append(f"{report.absent:,} absent")
    words.append(f"{report.retried:,} retried")
    words.append(f"{report.dead:,} dead")
    if report.dropped:
        words.append(f"{report.dropped:,} dropped")
    if report.pending:
        words.append(f"{report.pending:,} pending")
    if report.deleted:
        words.append(f"{report.deleted:,} deleted")
    words.append(size_text(report.bytes))
    words.append(f"{report.elapsed_s:.1f} s")
    words.append(f"{report.rate_per_s:,.0f} tiles/s")
    return f"{report.state.replace('_', ' ')}: " + ", ".join(words)


def report_text(report: SeedReport) -> str:
    """The whole report as a table for people."""
    rows = [
        ("tiles planned", f"{report.planned:,}"),
        ("done", f"{report.done:,}" + (f"  ({report.skipped:,} before)" if report.skipped else "")),
        *([("unchanged", f"{report.unchanged:,}")] if report.unchanged else []),
        ("absent", f"{report.absent:,}"),
        ("dead", f"{report.dead:,}"),
        *([("dropped", f"{report.dropped:,}")] if report.dropped else []),
        ("pending", f"{report.pending:,}"),
        *([("deleted", f"{report.deleted:,}")] if report.deleted else []),
        (
            "requests",
            f"{report.requests:,}  ({report.retried:,} retried, {report.pushed_back:,} pushed back)",
        ),
        *([("failed attempts", _counts_text(report.causes))] if report.causes else []),
        ("bytes", size_text(report.bytes)),
        ("time", f"{report.elapsed_s:.1f} s, {report.rate_per_s:,.0f} tiles/s"),
        ("fetch p50/p95/p99", f"{report.p50_ms:.0f} / {report.p95_ms:.0f} / {report.p99_ms:.0f} ms"),
        ("held by push-back", f"{report.push_back_s:.1f} s"),
        *(("degraded", reason) for reason in report.health.reasons),
    ]
    return "\n".join(f"  {name:<18} {value}" for name, value in rows)
