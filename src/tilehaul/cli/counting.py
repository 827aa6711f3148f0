"""A bar for work that is not a job: so many of so many."""

import shutil
import sys
from typing import Any

from tilehaul.cli.common import colour_wanted


class CountBar:
    """Drawn on a terminal only; `total` may be None."""

    def __init__(self, *, quiet: bool) -> None:
        self._wanted = not quiet and sys.stderr.isatty()
        self._bar: Any = None

    def __call__(self, count: int, total: int | None = None) -> None:
        if not self._wanted:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                unit=" tiles",
                file=sys.stderr,
                ncols=shutil.get_terminal_size((80, 24)).columns,
                colour="cyan" if colour_wanted() else None,
            )
        self._bar.update(count - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
