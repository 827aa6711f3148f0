"""`docs/faults.md` and the named scenarios are one list."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| (\d+) \| ([a-z0-9, -]+) \| ([^|]+) \|")


def scenarios() -> set[str]:
    """Every test whose name begins with a number of the catalogue."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        names |= set(
            re.findall(r"^(?:async )?def (test_\d\d_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        )
    return names


def listed() -> dict[int, list[str]]:
    """Tests by the number of their row."""
    return {int(number): re.findall(r"`(\w+)`", tests) for number, _, tests in ROW.findall(PAGE)}


def test_every_row_names_tests_of_its_number_and_they_exist() -> None:
    rows, there = listed(), scenarios()
    assert len(rows) > 20
    for number, tests in rows.items():
        assert tests, number
        for name in tests:
            assert name in there, f"docs/faults.md names {name}, and there is no such test"
            assert name.startswith(f"test_{number:02}_")


def test_every_scenario_is_on_the_page() -> None:
    """A test may have parts: they begin with the name that is listed."""
    rows = listed()
    for name in scenarios():
        number = int(name.split("_")[1])
        assert number in rows, f"{name} is not in docs/faults.md"
        assert any(name.startswith(first) for first in rows[number]), f"{name} is not in docs/faults.md"


def test_rows_are_in_order_and_named_once() -> None:
    numbers = [int(number) for number, _, _ in ROW.findall(PAGE)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == sum(line.startswith("| ") and line[2].isdigit() for line in PAGE.splitlines())
