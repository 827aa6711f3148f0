"""The event loop everything runs on."""

import asyncio
import sys


def new_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's where it exists; on Windows one that can watch sockets, which its default loop cannot."""
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop()
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
