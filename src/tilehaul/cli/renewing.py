"""The configuration read anew: what may change while a service runs."""

from tilehaul.config.settings import Settings
from tilehaul.errors import ConfigError


def check_renewable(before: Settings, settings: Settings) -> None:
    """Raise ConfigError when the new settings need the service to be started anew."""
    if not settings.layers:
        raise ConfigError("nothing to serve: no layers are left")
    for name in ("host", "port", "workers"):
        if getattr(before.server, name) != getattr(settings.server, name):
            raise ConfigError(f"server.{name} has changed: that needs the service to be started anew")
    if before.jobs != settings.jobs:
        raise ConfigError("jobs has changed: that needs the service to be started anew")
