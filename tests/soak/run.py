"""Random fault schedules, kills and resumes against the whole engine.

    make soak                                     50 runs with a new seed
    make soak ARGS="--runs 200 --seed 1"          the same 200 for everybody
    make soak ARGS="--seed 1 --only 17 --show"    one run again, with its schedule
    make soak ARGS="--serve --minutes 20"         the service under viewers instead: see serve_run.py

Each run: a lab server with its own mix of faults, half of the time behind a proxy with others, an area of
50 to 400 tiles, a job that is killed, interrupted or cancelled at random moments, started again until it
ends, then a repair and a last run.
After each life and at the end:

* every planned tile is exactly one of done, absent, dead or pending, and what the job said of itself
  (report, exit code) is what lies in its store, read without tilehaul;
* done tiles are the origin's, byte for byte; nothing is recorded as absent that the origin has;
* what was committed stays and is never asked for again;
* inside a Retry-After come no more requests than were in flight when it was sent (or arrived with it);
* after the repair the content is that of a run without faults, nothing is left beside the store, and the
  same job once more sends nothing.

Faults and moments follow from the seed; how far a job has come at a moment is the machine's doing, so a
failure may need its command more than once.
"""

import argparse
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pprint import pformat

from soak import serve_run
from soak.one_run import Result, run
from soak.schedule import draw

RUNS_DEFAULT = 50
JOBS_DEFAULT = 2
MINUTES_DEFAULT = 20.0


def run_numbered(seed: int, number: int) -> Result:
    """One run by its two numbers; anything but a broken rule is a failure of the run, too."""
    try:
        return run(draw(seed, number))
    except Exception as error:  # the door of a run: the others go on
        return Result(number, failure=f"{type(error).__name__}: {error}")


def line_of(result: Result) -> str:
    codes = " ".join("-" if code is None else str(code) for code in result.codes)
    verdict = "ok" if not result.failure else "FAILED"
    return (
        f"{result.number:>5}  {verdict:<6} {result.planned:>4} tiles  {result.requests:>5} requests"
        f"  {result.replayed:>3} dead  inside {result.inside}/{result.inside_allowed}"
        f"  {result.elapsed_s:4.1f} s  exits {codes}"
    )


def summary(results: list[Result], elapsed_s: float) -> str:
    failed = sum(bool(result.failure) for result in results)
    ends = Counter("early" if code is None else str(code) for result in results for code in result.codes)
    faults = sum((result.faults for result in results), Counter[str]())
    planned = sum(result.planned for result in results)
    return (
        f"{len(results)} runs, {failed} failed, {elapsed_s:.0f} s\n"
        f"  {planned:,} tiles planned, {sum(r.requests for r in results):,} requests,"
        f" {sum(r.replayed for r in results):,} dead letters replayed,"
        f" {sum(r.committed_early for r in results):,} tiles committed by a life that was ended early\n"
        f"  {sum(r.inside for r in results):,} requests inside a Retry-After,"
        f" {sum(r.inside_allowed for r in results):,} could have been in flight\n"
        f"  lives by exit code: {', '.join(f'{code} {count}' for code, count in sorted(ends.items()))}\n"
        f"  faults met: {', '.join(f'{kind} {count:,}' for kind, count in sorted(faults.items()))}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=RUNS_DEFAULT, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N", help="default: a new one, printed")
    parser.add_argument("--jobs", type=int, default=JOBS_DEFAULT, metavar="N", help="runs at once")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this run alone")
    parser.add_argument("--show", action="store_true", help="print the schedule first (with --only)")
    parser.add_argument("--serve", action="store_true", help="the service, for --minutes")
    parser.add_argument("--minutes", type=float, default=MINUTES_DEFAULT, metavar="N", help="with --serve")
    asked = parser.parse_args()
    if asked.runs < 1 or asked.jobs < 1:
        parser.error("--runs and --jobs: 1 or more")
    seed = random.SystemRandom().randrange(1_000_000) if asked.seed is None else asked.seed
    if asked.serve:
        print(f"seed {seed}", flush=True)
        return serve_run.main(asked.minutes, seed)
    numbers = range(asked.runs) if asked.only is None else [asked.only]
    if asked.show:
        for number in numbers:
            print(pformat(draw(seed, number), width=110))
    print(f"seed {seed}", flush=True)
    begun_s = time.monotonic()
    results = []
    with ProcessPoolExecutor(min(asked.jobs, len(numbers)), mp_context=get_context("spawn")) as pool:
        for result in pool.map(run_numbered, [seed] * len(numbers), numbers):
            results.append(result)
            print(line_of(result), flush=True)
            if result.failure:
                again = f"make soak ARGS='--seed {seed} --only {result.number}'"
                print(f"       {result.failure}\n       again: {again}", flush=True)
    print(summary(results, time.monotonic() - begun_s))
    return 1 if any(result.failure for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
