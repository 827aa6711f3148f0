"""Exit codes, one table (`contracts`, Jobs)."""

from tilehaul.errors import (
    BusyError,
    ConfigError,
    DataError,
    FuseError,
    PlanError,
    StorageError,
    TilehaulError,
    TransferError,
)

COMPLETE = 0
DIFFERENT = 1
USAGE = 2
DEAD_LETTERS = 3
STOPPED = 4
LOCAL_IO = 5
INTERRUPTED = 130

# Found by walking the error's class and its bases, so one entry covers a family.
_BY_ERROR: dict[type[TilehaulError], int] = {
    ConfigError: USAGE,
    PlanError: USAGE,
    DataError: USAGE,
    FuseError: STOPPED,
    TransferError: STOPPED,
    BusyError: STOPPED,
    StorageError: LOCAL_IO,
}

_BY_STATE = {
    "complete": COMPLETE,
    "dead_letters": DEAD_LETTERS,
    "stopped": STOPPED,
    "interrupted": INTERRUPTED,
}


def code_of_error(error: TilehaulError) -> int:
    for kind in type(error).__mro__:
        if kind in _BY_ERROR:
            return _BY_ERROR[kind]
    return STOPPED


def code_of_state(state: str) -> int:
    """Exit code of a job that ended with a report in this state."""
    return _BY_STATE[state]
