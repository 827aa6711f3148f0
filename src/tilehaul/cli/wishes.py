"""What the operator of a running service wants, by signals."""

import asyncio
import os
import signal


class Wishes:
    """SIGINT and SIGTERM: stop; a second one: `hurry`. SIGHUP: read the configuration anew.

    SIGHUP is also what a terminal says when it is closed: then it means stop, as it always has.
    """

    def __init__(self) -> None:
        self._had_terminal = _has_terminal()
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        self._renew = asyncio.Event()

    def listen(self, *, renewable: bool) -> None:
        """Hear signals in the running loop. Without a file to read anew SIGHUP ends the program, as ever.

        Where the loop has no handlers (Windows) Ctrl-C is a KeyboardInterrupt.
        """
        loop = asyncio.get_running_loop()
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._on_stop)
            if renewable:
                loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        except (NotImplementedError, AttributeError):
            return

    async def renewal(self) -> bool:
        """Wait: True when the configuration is to be read anew, False when it is time to stop."""
        waits = [asyncio.create_task(event.wait()) for event in (self.stop, self._renew)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._renew.clear()
        return not self.stop.is_set()

    def _on_hangup(self) -> None:
        if self._had_terminal and not _has_terminal():
            self._on_stop()
        else:
            self._renew.set()

    def _on_stop(self) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()


def _has_terminal() -> bool:
    """Whether the process belongs to a terminal, wherever its streams go."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
