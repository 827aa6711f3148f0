"""YAML in, frozen values out, and errors that name the line and the key: what all our files share."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
import yaml

from tilehaul.errors import ConfigError

FILE_BYTES_MAX = 1024 * 1024
# libyaml's, where PyYAML was built with it, is ten times as fast; both construct plain values only.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Without dates: 2026-10-01 stays the text it is.
_RESOLVERS = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

T = TypeVar("T")
KeyPath = Sequence[str | int]


class Place:
    """Where a value stands, for messages: a file or another name, and the lines of its keys if known."""

    def __init__(self, name: str, root: yaml.Node | None = None) -> None:
        self.name = name
        self._root = root

    def error(self, message: str, path: KeyPath = ()) -> ConfigError:
        """`NAME in line 3: message`, about the value at `path`."""
        line = self._line(path)
        return ConfigError(f"{self.name}{f' in line {line}' if line else ''}: {message}")

    def _line(self, path: KeyPath) -> int | None:
        """The line, from 1, of the nearest key on the way to `path`; None when none is known."""
        node, line = self._root, None
        for step in path:
            if isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if pair[0].value == str(step)]
                if not pairs:
                    break
                key, node = pairs[-1]
                line = key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line


def read_yaml(path: Path) -> tuple[object, Place]:
    """A file's one document, None when it is empty, and where its keys stand.

    Raises:
        ConfigError: The file cannot be read, is too large, no UTF-8 text, or no YAML of plain values.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {FILE_BYTES_MAX} bytes: it is no configuration file")
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> tuple[object, Place]:
    """As `read_yaml`, of text; `name` for messages."""
    loader = _Loader(text)
    loader.yaml_implicit_resolvers = _RESOLVERS
    try:
        root = loader.get_single_node()
        return (None if root is None else loader.construct_document(root)), Place(name, root)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{name}{line}: {problem}") from error
    except (ValueError, RecursionError) as error:
        # A number that is none after all, or brackets without end.
        raise ConfigError(f"{name}: {str(error).splitlines()[0]}") from error
    finally:
        loader.dispose()


def converted(document: object, kind: type[T], place: Place, path: KeyPath = ()) -> T:
    """The document as a value of `kind`, a msgspec struct.

    Raises:
        ConfigError: An unknown key, with the nearest known one; or a value of the wrong type or out of
            range, with its key.
    """
    _check_keys(document, kind, place, path)
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError as error:
        culprit, inside, what = _culprit(document, kind, path, error)
        where = f"{_dotted(culprit)}{inside}".lstrip(".") or "the file"
        raise place.error(f"{where}: {what}", culprit) from error


def _check_keys(document: object, kind: Any, place: Place, path: KeyPath) -> None:
    """Raise ConfigError for the first unknown key, naming the nearest known one."""
    kind = _bare(kind)
    is_dict = get_origin(kind) is dict
    if not is_dict and not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return
    if not isinstance(document, dict):
        raise place.error(f"{_dotted(path) or 'the file'} must be a block of keys", path)
    if is_dict:
        for key, item in document.items():
            _check_keys(item, get_args(kind)[1], place, (*path, str(key)))
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, item in document.items():
        here = (*path, str(key))
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            raise place.error(f'unknown key "{_dotted(here)}"; the nearest known one is "{near[0]}"', here)
        _check_keys(item, fields[key], place, here)


def _culprit(
    document: object, kind: Any, path: KeyPath, error: msgspec.ValidationError
) -> tuple[KeyPath, str, str]:
    """The path of the value that cannot be converted, msgspec's own path inside it, and what is wrong.

    msgspec leaves the keys of dictionaries out of its own path.
    """
    kind = _bare(kind)
    parts: dict[str | int, tuple[object, Any]] = {}
    if isinstance(document, dict) and get_origin(kind) is dict:
        parts = {str(key): (item, get_args(kind)[1]) for key, item in document.items()}
    elif isinstance(document, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        parts = {key: (item, types[key]) for key, item in document.items() if key in types}
    for key, (item, item_kind) in parts.items():
        try:
            msgspec.convert(item, item_kind, strict=False)
        except msgspec.ValidationError as inner:
            return _culprit(item, item_kind, (*path, key), inner)
    what, _, where = str(error).partition(" - at `$")
    what = what.replace("`", "")
    return path, where.rstrip("`").replace("[...]", ""), f"{what[0].lower()}{what[1:]}"


def _bare(kind: Any) -> Any:
    """The type inside `Annotated`."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))
