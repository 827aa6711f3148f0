"""SQLite answers the old mode, not an error, when the switch of its journal failed."""

from pathlib import Path

import apsw
import pytest

from tilehaul.errors import StorageError
from tilehaul.stores.sqlite_file import WritableFile


class Stubborn:
    """A connection whose journal stays as it is."""

    def __init__(self, inner: apsw.Connection) -> None:
        self._inner = inner

    def pragma(self, name: str, *value: object) -> object:
        return self._inner.pragma(name, *(() if name == "journal_mode" else value))

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def test_log_that_could_not_be_switched_on_ends_the_run(tmp_path: Path) -> None:
    file = WritableFile(tmp_path / "s.db")
    whole, file.connection = file.connection, Stubborn(file.connection)  # type: ignore[assignment]
    with pytest.raises(StorageError, match=r"preparing .*s\.db failed: .*run the same"):
        file.prepare()
    with pytest.raises(StorageError, match="a write failed before"), file.transaction():
        pass
    file.connection = whole
    file.close()


def test_file_that_could_not_be_made_one_file_is_not_called_closed(tmp_path: Path) -> None:
    """What is in it is durable; the next run folds it."""
    file = WritableFile(tmp_path / "s.db")
    file.prepare()
    with file.transaction() as connection:
        connection.execute("CREATE TABLE t (x)")
    whole, file.connection = file.connection, Stubborn(file.connection)  # type: ignore[assignment]
    with pytest.raises(StorageError, match=r"closing .*s\.db failed"):
        file.seal()
    file.connection = whole
    file.close()
    again = WritableFile(tmp_path / "s.db")
    again.adopt()
    again.seal()
    assert again.tables() == {"t": "table"}
    again.close()
    assert {p.name for p in tmp_path.iterdir()} == {"s.db"}
