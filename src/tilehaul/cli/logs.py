"""The log of a command: lines for people, or JSON, on standard error.

Every line passes through `redact_text`, and carries the job and the request it belongs to. What is logged is
the business of the rooms below; this file decides only how it looks.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from tilehaul.cli.common import LOG_LEVELS
from tilehaul.codec.safe_url import redact_text
from tilehaul.errors import ConfigError
from tilehaul.ports.correlation import JOB_ID, REQUEST_ID


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`level`: the least that is shown of our own lines; of other libraries' it is always `warning`."""

    level: str = "warning"
    as_json: bool = False


def wanted_log(told: str, *, level: str | None, as_json: bool) -> LogSettings:
    """What the flags say, else TILEHAUL_LOG: a level, `json`, or both with a comma. Raises ConfigError."""
    words = [word.strip().lower() for word in told.split(",") if word.strip()]
    for word in words:
        if word not in (*LOG_LEVELS, "json"):
            raise ConfigError(f'TILEHAUL_LOG: "{word[:20]}" is not {", ".join(LOG_LEVELS)} or json')
    levels = [word for word in words if word != "json"]
    json_wanted = as_json or "json" in words
    # Who asks for JSON and names no level wants a log, not only complaints.
    default = "info" if json_wanted else "warning"
    return LogSettings(level or (levels[-1] if levels else default), json_wanted)


def log_settings_of(options: argparse.Namespace) -> LogSettings | None:
    """What a command's flags and TILEHAUL_LOG say; None when they say nothing. Raises ConfigError."""
    told = os.environ.get("TILEHAUL_LOG", "")
    if not (told or options.log_level or options.log_json):
        return None
    return wanted_log(told, level=options.log_level, as_json=options.log_json)


def set_up_log(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (standard error) in the form the settings name. Replaces what was set up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if settings.as_json else PlainLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("tilehaul").setLevel(settings.level.upper())


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, `job_id`, `request_id`, the facts.

    Ids are left out where there are none. No fact replaces one of these names. Infinite numbers become null.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_ids(record),
        }
        for name, value in _facts(record).items():
            line.setdefault(name, _shown(value))
        if record.exc_info:
            line["traceback"] = redact_text(self.formatException(record.exc_info))
        return msgspec.json.encode(line, enc_hook=str).decode()


class PlainLines(logging.Formatter):
    """`time LEVEL logger: message [job request]`, and the traceback of an error below it."""

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(_ids(record).values())
        line = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}"
        line = f"{line} [{ids}]" if ids else line
        if record.exc_info:
            line = f"{line}\n{redact_text(self.formatException(record.exc_info))}"
        return line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    # A line break in what a stranger sent must not become a line of its own.
    return redact_text(record.getMessage()).replace("\r", "\\r").replace("\n", "\\n")


def _ids(record: logging.LogRecord) -> dict[str, str]:
    facts = _facts(record)
    request = REQUEST_ID.get()
    # A tile as the request's name says where: at debug only.
    shown = request if isinstance(request, str) or record.levelno <= logging.DEBUG else ""
    ids = {"job_id": str(facts.get("job_id") or JOB_ID.get()), "request_id": str(shown)}
    return {name: value for name, value in ids.items() if value}


def _facts(record: logging.LogRecord) -> Mapping[str, Any]:
    facts = getattr(record, "facts", None)
    return facts if isinstance(facts, Mapping) else {}


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): _shown(one) for name, one in value.items()}
    return value
