"""Reading the configuration file: YAML, `${VAR:-default}`, strict keys, errors that help."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import yaml

from tilehaul.config.settings import LayerSettings, Missing, Settings
from tilehaul.errors import ConfigError
from tilehaul.jobs.layer import LAYER_NAME

CONFIG_BYTES_MAX = 1024 * 1024
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_UNITS = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}


def load_settings(path: Path, environment: Mapping[str, str]) -> Settings:
    """Read a configuration file.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or a key or value is wrong. The message names the
            file, the key, and for an unknown key the nearest known one.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if len(raw) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {CONFIG_BYTES_MAX} bytes: it is no configuration file")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{line}: {problem}") from error
    return parse_settings({} if document is None else document, environment, name=str(path))


def parse_settings(document: object, environment: Mapping[str, str], *, name: str = "config") -> Settings:
    """Turn a parsed document into settings. Raises ConfigError as `load_settings` does."""
    expanded = _expanded(document, environment, name)
    _check_keys(expanded, Settings, name, "")
    try:
        settings = msgspec.convert(expanded, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_in_words(str(error))}") from error
    for layer_name, layer in settings.layers.items():
        _check_layer(layer_name, layer, name)
    parse_size(settings.cache.memory, f"{name}: cache.memory")
    return settings


def parse_size(value: int | str, what: str) -> int:
    """Bytes from `268435456`, `"256MB"` (decimal) or `"256MiB"` (binary). Raises ConfigError."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ConfigError(f'{what}: "{value}" is no size; write bytes or e.g. 512MB')
    return int(float(match["number"]) * _UNITS[(match["unit"] or "B").lower()])


def _check_layer(layer_name: str, layer: LayerSettings, name: str) -> None:
    where = f"{name}: layers.{layer_name}"
    if not LAYER_NAME.fullmatch(layer_name):
        raise ConfigError(
            f"{where}: a layer's name is 1 to 64 letters, digits, dots, dashes or underscores,"
            " and begins with a letter or digit"
        )
    if str(layer.missing) not in get_args(Missing):
        raise ConfigError(f'{where}.missing: "{layer.missing}" is none of 404, 204, transparent')
    if not layer.source:
        raise ConfigError(f"{where}.source: names no location")
    if layer.min_zoom is not None and layer.max_zoom is not None and layer.min_zoom > layer.max_zoom:
        raise ConfigError(f"{where}: min_zoom {layer.min_zoom} is above max_zoom {layer.max_zoom}")


def _expanded(value: Any, environment: Mapping[str, str], name: str) -> Any:
    """The document with `${VAR}` and `${VAR:-default}` replaced in every text."""
    if isinstance(value, dict):
        return {str(key): _expanded(item, environment, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, environment, name) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        found = environment.get(match["name"]) or match["default"]
        if found is None:
            raise ConfigError(
                f"{name}: the environment variable {match['name']} is not set;"
                f" set it, or write ${{{match['name']}:-default}}"
            )
        return found

    return _VARIABLE.sub(replaced, value)


def _check_keys(document: object, kind: Any, name: str, path: str) -> None:
    """Raise ConfigError for the first unknown key, naming the nearest known one."""
    if get_origin(kind) is dict:
        if isinstance(document, dict):
            for key, item in document.items():
                _check_keys(item, get_args(kind)[1], name, f"{path}.{key}")
        return
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: {path.lstrip('.') or 'the file'} must be a block of keys")
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, item in document.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)
            raise ConfigError(
                f'{name}: unknown key "{(path + "." + key).lstrip(".")}";'
                f' the nearest known one is "{near[0]}"'
            )
        _check_keys(item, fields[key], name, f"{path}.{key}")


def _in_words(message: str) -> str:
    """Msgspec's "Expected `int` - at `$.a.b`" as "a.b: expected int"."""
    what, separator, where = message.partition(" - at `$")
    what = what.replace("`", "")
    if not separator:
        return what
    return f"{where.rstrip('`').lstrip('.').replace('[...]', '')}: {what[0].lower()}{what[1:]}"
