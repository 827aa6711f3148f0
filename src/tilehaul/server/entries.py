"""One address of the service as one value: what answers it, and what `/openapi.json` says of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from tilehaul.jobs.serve_tile import SENT_KINDS, Reply
from tilehaul.server.batch_encodings import JSON

# A stream answers by itself; every other answer is a plain reply.
Answer = Callable[[Request], Awaitable[Reply | Response]]
# Who may: everybody, of private layers who has a key for them; who has the service's own keys.
Key = Literal["layer", "admin", "jobs"]
Answers = Mapping[int, tuple[str, ...]]

XML = "application/xml"
TEXT: tuple[str, ...] = ()
NOTHING: tuple[str, ...] = ()
DOCUMENT: Answers = {200: (JSON,)}
# What any tile may come to: the tile or its absence, then what an origin or a full queue makes of it.
TILE: Answers = {
    200: tuple(SENT_KINDS),
    204: NOTHING,
    304: NOTHING,
    400: (JSON,),
    404: (JSON,),
    500: (JSON,),
    502: (JSON,),
    503: (JSON,),
    504: (JSON,),
}


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter behind the question mark; `schema` is a JSON schema."""

    name: str
    text: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One method of one address.

    Args:
        path: As the framework wants it: `/api/tiles/{layer}`.
        answer: HEAD comes with GET.
        summary: One line for `/docs`.
        answers: Statuses with the media types of their bodies; 401 and 429 go without saying.
        queries: Parameters. Others are not looked at.
        key: Which one is asked for, where one is.
        body: The class of a JSON body.
        public: Pages of other sites may read it.
    """

    method: str
    path: str
    answer: Answer
    summary: str
    answers: Answers = field(default_factory=lambda: DOCUMENT)
    queries: tuple[Query, ...] = ()
    key: Key | None = None
    body: type | None = None
    public: bool = True
