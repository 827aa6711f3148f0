"""Reading the configuration file: YAML, `${VAR:-default}`, strict keys, errors that help."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from tilehaul.config.providers import with_providers
from tilehaul.config.reading import Place, converted, read_yaml
from tilehaul.config.settings import LayerSettings, Missing, Settings
from tilehaul.errors import ConfigError
from tilehaul.jobs.layer import LAYER_NAME
from tilehaul.policy.client_names import ClientNames
from tilehaul.policy.keyring import KEY_CHARS_MIN

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
            file, the line, the key, and for an unknown key the nearest known one.
    """
    document, place = read_yaml(path)
    return _settings({} if document is None else document, environment, place)


def parse_settings(document: object, environment: Mapping[str, str], *, name: str = "config") -> Settings:
    """Turn a parsed document into settings. Raises ConfigError as `load_settings` does."""
    return _settings(document, environment, Place(name))


def _settings(document: object, environment: Mapping[str, str], place: Place) -> Settings:
    settings = converted(_expanded(document, environment, place.name), Settings, place)
    for layer_name, layer in settings.layers.items():
        _check_layer(layer_name, layer, place.name)
    _check_keys(settings, place.name)
    try:
        ClientNames(settings.server.trusted_proxies)
    except ConfigError as error:
        raise ConfigError(f"{place.name}: server.{error}") from error
    with_providers(settings.providers, place, ("providers",))
    parse_size(settings.cache.memory, f"{place.name}: cache.memory")
    if settings.cache.disk is not None:
        parse_size(settings.cache.disk, f"{place.name}: cache.disk")
    if (settings.cache.disk is None) != (not settings.cache.path):
        raise ConfigError(f"{place.name}: cache.disk (how much) and cache.path (where) go together")
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


def _check_keys(settings: Settings, name: str) -> None:
    """Nothing is open by mistake, nothing shut for everybody."""
    told = {
        "server.admin_key": settings.server.admin_key,
        "jobs.key": settings.jobs.key if settings.jobs else "",
    }
    for where, key_text in told.items():
        if 0 < len(key_text) < KEY_CHARS_MIN:
            raise ConfigError(f"{name}: {where} has less than {KEY_CHARS_MIN} characters, and can be guessed")
    private = {layer_name for layer_name, layer in settings.layers.items() if layer.private}
    opened: set[str] = set(private) if settings.server.admin_key else set()
    for key_name, key in settings.keys.items():
        for layer_name in key.layers:
            where = f"{name}: keys.{key_name}.layers"
            if layer_name == "*":
                opened |= private
            elif layer_name not in settings.layers:
                raise ConfigError(f'{where}: there is no layer "{layer_name}"')
            elif layer_name not in private:
                raise ConfigError(
                    f'{where}: everybody may have "{layer_name}": set layers.{layer_name}.private: true'
                )
        opened.update(key.layers)
    if shut := private - opened:
        raise ConfigError(f"{name}: layers.{min(shut)}: it is private and none of `keys` opens it")


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
