"""The configuration file as frozen values. These classes are its JSON schema (`config/schema.py`)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tilehaul.config.providers import ProviderSettings
from tilehaul.jobs.batch import DEADLINE_S
from tilehaul.policy.freshness import REVALIDATE_S, STALE_S

Missing = Literal["404", "204", "transparent"]
ReadyNeed = Literal["archives", "cache", "origins"]
# Each is a Python of 60 MB; a machine of more cores has its service on several ports.
WORKERS_MAX = 64
Zoom = Annotated[int, Meta(ge=0, le=30)]


class LayerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One layer of the service."""

    source: Annotated[
        str | list[str],
        Meta(description="A location (URL template, archive, directory), or several in order of fallback."),
    ]
    title: str = ""
    attribution: str = ""
    missing: Annotated[
        int | str, Meta(description="Answer for a tile that does not exist: 404, 204 or transparent.")
    ] = 404
    formats: Annotated[
        tuple[str, ...],
        Meta(
            description="Formats that may be asked for and come from the source: avif, gif, jpg, mvt, png, "
            "webp; without it all."
        ),
    ] = ()
    min_zoom: Zoom | None = None
    max_zoom: Zoom | None = None
    bounds: Annotated[
        tuple[float, float, float, float] | None, Meta(description="west, south, east, north in degrees")
    ] = None
    max_age: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=31_536_000,
                description="Seconds a tile stays fresh, here and at clients, whatever the origin says; "
                "without it what the origin says (Cache-Control, Expires), else an hour.",
            ),
        ]
        | None
    ) = None
    stale_while_revalidate: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="Seconds past that in which a tile is given at once and renewed meanwhile.",
        ),
    ] = REVALIDATE_S
    stale_if_error: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="Seconds past that in which a tile stands in for an origin that fails.",
        ),
    ] = STALE_S
    cache: Annotated[
        Literal["all", "memory", "none"], Meta(description="Which of the service's caches keep its tiles.")
    ] = "all"
    prefetch: Annotated[
        int,
        Meta(
            ge=0,
            le=3,
            description="Fetch the neighbours of a tile that was in no cache, so many tiles away; 0: none.",
        ),
    ] = 0
    private: Annotated[bool, Meta(description="Only who has one of `keys` may know of it.")] = False
    headers: Annotated[
        dict[str, str],
        Meta(description="Sent to the origin, e.g. an API key; of several to the first host only."),
    ] = {}
    concurrency: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=1000,
                description="Cap of what is under way at the origin at once; "
                "without one 32 at a tile server, 128 at a bucket.",
            ),
        ]
        | None
    ) = None
    rate_limit: Annotated[float, Meta(gt=0, description="Requests a second to the origin.")] | None = None
    timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="Seconds for one attempt at the origin; at most four fifths of server.deadline_s.",
        ),
    ] = 30.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 2


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The service's caches, one of each for all layers."""

    memory: Annotated[int | str, Meta(description='Bytes, or a size such as "512MB".')] = "256MB"
    disk: (
        Annotated[
            int | str,
            Meta(description='Bytes, or a size such as "20GB"; without it nothing is kept on disk.'),
        ]
        | None
    ) = None
    path: Annotated[str, Meta(description="The folder of the disk cache; needed with `disk`.")] = ""


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the service listens and how the world sees it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    public_url: Annotated[
        str, Meta(description="Address for absolute links, e.g. https://tiles.example.com")
    ] = ""
    client_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description="Requests a second each client may send in the long run (a tile of a batch is one), "
            "else 429; 0: any number. This machine and the trusted proxies themselves are not limited.",
        ),
    ] = 200.0
    client_burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests that may follow at once after a rest.")
    ] = 400
    trusted_proxies: Annotated[
        list[str],
        Meta(description="Addresses or networks (10.0.0.0/8) of proxies whose X-Forwarded-For is believed."),
    ] = []
    cors: Annotated[
        tuple[str, ...],
        Meta(description='Sites whose pages may read tiles, e.g. "https://maps.example.com"; "*": all.'),
    ] = ("*",)
    deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Seconds after which a tile that has not come is 504; one whose turn at its origin "
            "would not come by then is 503 at once.",
        ),
    ] = DEADLINE_S
    admin_key: Annotated[
        str,
        Meta(
            description="Who sends it as `Authorization: Bearer KEY` may empty caches. Not needed where the "
            "service listens on this machine only; elsewhere nobody may without it."
        ),
    ] = ""
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=WORKERS_MAX,
            description="Processes that answer. Memory for tiles, and what each origin may be asked for at "
            "once and a second, are divided among them.",
        ),
    ] = 1
    notice: Annotated[
        float,
        Meta(
            ge=0,
            le=300,
            description="Seconds for which a service that is told to end still takes requests, while "
            "`/health/ready` says no: for a balancer to notice.",
        ),
    ] = 0.0
    ready_needs: Annotated[
        tuple[ReadyNeed, ...],
        Meta(
            description="What `/health/ready` asks for: that each layer's archives can be read; that the "
            "disk cache takes tiles; that an origin can be asked, or a cache has something to give."
        ),
    ] = ("archives", "cache")


class KeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key that opens private layers. The file has its hash only."""

    sha256: Annotated[
        str,
        Meta(pattern="^[0-9a-fA-F]{64}$", description="As `tilehaul serve --hash-key` prints it."),
    ]
    layers: Annotated[
        list[str], Meta(min_length=1, description='The private layers it opens; "*": all there are.')
    ]


class JobsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seeds that clients of the service may start. Without this part nobody can."""

    folder: Annotated[str, Meta(min_length=1, description="Where the stores of jobs lie; made if missing.")]
    key: Annotated[
        str,
        Meta(
            description="Clients send it as `Authorization: Bearer KEY`. "
            "Needed unless the service listens on this machine only."
        ),
    ] = ""
    running_max: Annotated[int, Meta(ge=1, le=100, description="Jobs that may run at once.")] = 2
    tiles_max: Annotated[
        int, Meta(ge=1, description="Tiles one job may ask for, counted in the box around its area.")
    ] = 10_000_000


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    layers: dict[str, LayerSettings] = {}
    cache: CacheSettings = CacheSettings()
    server: ServerSettings = ServerSettings()
    jobs: JobsSettings | None = None
    keys: Annotated[dict[str, KeySettings], Meta(description="Who may have private layers.")] = {}
    contact: Annotated[str, Meta(description="Mail or page, sent in the User-Agent.")] = ""
    providers: Annotated[
        dict[str, ProviderSettings], Meta(description="What hosts permit, over what is known of them.")
    ] = {}
    allow_private: Annotated[
        list[str], Meta(description='"host:port" pairs that redirects may reach although private')
    ] = []
