"""A tile that was given up on becomes a dead letter."""

from tilehaul.codec.safe_url import redact_text
from tilehaul.errors import BusyError, DataError
from tilehaul.policy.causes import cause_of
from tilehaul.ports.store import DeadLetter
from tilehaul.ports.tile import FailedTile, NoTile

# Of what a source says of a tile, so many characters are shown in a line.
SAID_CHARS_MAX = 200


def said_of(letter: DeadLetter) -> str:
    """What its message tells besides address and cause, above all the words of a service; "" for nothing.

    One printable line of at most SAID_CHARS_MAX, secrets masked: an archive may be anybody's.
    """
    if not letter.url or not letter.message.startswith(letter.url):
        return ""
    words = redact_text(letter.message.removeprefix(letter.url).partition(": ")[2])
    plain = " ".join("".join(char if char.isprintable() else " " for char in words).split())
    return plain if len(plain) <= SAID_CHARS_MAX else plain[: SAID_CHARS_MAX - 3] + "..."


def dead_letter(failed: FailedTile, *, at_s: float) -> DeadLetter:
    """What the journal keeps of it: cause, attempts, redacted address, the beginning of a wrong body.

    `at_s` is when, in seconds since 1970.
    """
    error = failed.error
    head = b""
    if isinstance(error, DataError):
        # An error page may repeat the key that was sent with the request. What is no text stays as it came.
        shown = redact_text(error.head.decode("utf-8", "surrogateescape"))
        head = shown.encode("utf-8", "surrogateescape")[: DataError.HEAD_BYTES_MAX]
    return DeadLetter(
        failed.tile_id,
        cause=cause_of(error),
        attempts=failed.attempts,
        url="" if isinstance(error, BusyError) else error.url,
        message=str(error),
        body_head=head,
        at_s=at_s,
    )


def vanished(answer: NoTile, source: str) -> FailedTile:
    """A tile that an archive listed and does not have: absent it is not, and it may come back."""
    what = f"{source} lists tile {answer.tile_id} and does not have it: it is damaged, or changed meanwhile"
    return FailedTile(answer.tile_id, DataError(what, cause="vanished"), 1)
