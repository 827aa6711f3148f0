"""Reading the command line: one line for each mistake, with the nearest known word."""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from tilehaul.cli import exit_codes

# `--bbox -5,44,17,48` is how a person writes it; argparse takes the second word for an option.
_NUMBERS = re.compile(r"-[0-9.][0-9.,eE+-]*")
_CHOICE = re.compile(r"invalid choice: '(?P<given>[^']*)' \(choose from (?P<known>.*)\)")


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line that say what to do."""

    def error(self, message: str) -> NoReturn:
        match = _CHOICE.search(message)
        if match is not None:
            known = [word.strip("' ") for word in match["known"].split(",")]
            message = f"there is no {match['given']!r}{_nearest(match['given'], known)}"
        self.exit(exit_codes.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_strictly(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """As `parse_args`, but an unknown option is answered by its own command, with the nearest one."""
        words = joined(sys.argv[1:] if arguments is None else arguments)
        options, unknown = self.parse_known_args(words)
        if unknown:
            self._command(options).refuse(unknown[0])
        return options

    def refuse(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        near = _nearest(name, known) if name.startswith("-") else ""
        self.error(
            f"there is no {name!r}{near}" if name.startswith("-") else f"{name!r} is one word too many"
        )

    def _command(self, options: argparse.Namespace) -> "Parser":
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no other way
                chosen = action.choices.get(getattr(options, "command", None) or "")
                if isinstance(chosen, Parser):
                    return chosen
        return self


def joined(arguments: Sequence[str]) -> list[str]:
    """The words with `--bbox` and the numbers behind it made one."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] == "--bbox" and _NUMBERS.fullmatch(word):
            words[-1] = f"--bbox={word}"
        else:
            words.append(word)
    return words


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
