"""The mutation score of `policy`, file by file, from what `mutmut run` left behind: `make mutants`.

    python benchmarks/mutants.py [--write] [--survivors]

A mutant is the code with one small change, killed when a test then fails. A timeout counts as killed: the
change made a loop endless. "No tests" means that no test of policy runs the function at all.
"""

import argparse
import datetime as dt
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "proof.md"
KILLED = ("killed", "timeout")
ROOM = "tilehaul.policy."


def results() -> dict[str, str]:
    """State by name of the mutant, as mutmut tells it."""
    command = [str(Path(sys.executable).with_name("mutmut")), "results", "--all", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pairs = (line.strip().partition(": ") for line in done.stdout.splitlines() if ": " in line)
    return {name: state for name, _, state in pairs}


def score_table(states: dict[str, str]) -> str:
    """A row a file, the weakest first, and one for all."""
    by_file: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, state in states.items():
        by_file[name.removeprefix(ROOM).partition(".")[0] + ".py"][state] += 1

    def row(name: str, counts: Counter[str]) -> tuple[str, ...]:
        killed, total = sum(counts[state] for state in KILLED), sum(counts.values())
        left = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if state not in KILLED)
        return name, f"{total:,}", f"{killed:,}", f"{100 * killed / total:.1f} %", left

    rows = [row(name, counts) for name, counts in by_file.items()]
    rows.sort(key=lambda cells: float(cells[3].split()[0]))
    every = sum(by_file.values(), Counter[str]())
    head = ("file of policy", "mutants", "killed", "score", "not killed")
    return tables.table(head, [*rows, row("**all**", every)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/proof.md, block mutants")
    parser.add_argument("--survivors", action="store_true", help="name the mutants that no test noticed")
    asked = parser.parse_args()
    states = results()
    if not states:
        raise SystemExit("no mutants: run `make mutants`")
    text = score_table(states)
    print(text)
    if asked.survivors:
        print(*(f"{state}: {name}" for name, state in states.items() if state not in KILLED), sep="\n")
    if asked.write:
        text += f"\n\n*{dt.datetime.now(tz=dt.UTC):%d %B %Y}*"
        tables.write_block(PAGE, "mutants", text)


if __name__ == "__main__":
    main()
