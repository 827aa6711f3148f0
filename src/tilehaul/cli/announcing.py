"""What `tilehaul serve` says of itself on the terminal, or as JSON on standard output."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announcer:
    """`as_json`: one object a line, on stdout. `quiet`: nothing but refusals."""

    as_json: bool = False
    quiet: bool = False

    def started(self, url: str, layers: Sequence[str], notes: Mapping[str, str]) -> None:
        """`notes`: what people should read of a layer, see `SourceInfo.note`."""
        lines = [f"serving {', '.join(layers)} at {url} (Ctrl-C ends)"]
        lines += [f"{layer}: {note}" for layer, note in notes.items()]
        self._say({"event": "serve.started", "url": url, "layers": list(layers)}, "\n".join(lines))

    def renewed(self, layers: Sequence[str]) -> None:
        """The configuration was read anew, and is what is served now."""
        log.info("the configuration was read anew")
        self._say(
            {"event": "serve.renewed", "layers": list(layers)},
            f"the configuration was read anew: serving {', '.join(layers)}",
        )

    def refused(self, message: str) -> None:
        """The configuration was read anew and is wrong."""
        log.error("the configuration stays as it was: %s", message)
        self._say({"event": "serve.refused", "message": message}, "")

    def _say(self, event: dict[str, object], line: str) -> None:
        if self.as_json:
            print(json.dumps(event), flush=True)
        elif line and not self.quiet:
            print(line, file=sys.stderr)
