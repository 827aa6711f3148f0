"""The socket the service listens on, and what to tell when there is none to be had."""

import errno
import socket

from tilehaul.errors import ConfigError


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket that does not block; port 0 takes a free one.

    Args:
        backlog: Connections that may wait to be accepted.

    Raises:
        ConfigError: The port is in use or not allowed, or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Here and not later, so that a port that is taken is found out now: with SO_REUSEADDR two
        # programs may bind, but only one may listen.
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise ConfigError(_why_not(host, port, error)) from error
    except OverflowError as error:
        listener.close()
        raise ConfigError(f"port {port}: ports go from 0 to 65535") from error
    listener.setblocking(False)
    return listener


def url_at(host: str, port: int) -> str:
    """`http://host:port`."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket, `http://host:port`."""
    host, port = listener.getsockname()[:2]
    return url_at(host, port)


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop the other program, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this user has: choose one above 1023 with --port"
    return f"cannot listen on {host}, port {port}: {error.strerror or error} (--host: one of this machine)"
