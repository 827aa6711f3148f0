"""Which job and which request a line of the log belongs to.

Context variables, for they follow a request through tasks that know nothing of it, and cost 50 ns to set; a
parameter through every layer would be there for the log alone. Nothing but the log reads the first two.
"""

from contextvars import ContextVar
from typing import Final

from tilehaul.grid.tile_id import TileId

JOB_ID: Final = ContextVar[str]("tilehaul_job_id", default="")
# In a service what the client called its request, or what we did. In a job the tile that is fetched: the one
# name that all attempts and the dead letter have in common. It says where, so it is for the debug log only.
REQUEST_ID: Final = ContextVar[str | TileId]("tilehaul_request_id", default="")
# Whether the upstream has answered this very tile badly before (5xx, a damaged body): another such answer
# says more of the tile than of the upstream. Set by a job for each attempt, read by the lane.
REPEATED: Final = ContextVar[bool]("tilehaul_repeated", default=False)
# Whether an answer past its freshness is at hand, to be given if this fetch fails: then nobody is kept
# waiting by further attempts. Set by a cache, read by what tries again.
AT_HAND: Final = ContextVar[bool]("tilehaul_at_hand", default=False)
# Whether a cache asks because what it has is to be renewed: a cache behind it asks too, instead of giving
# what it has and renewing that.
RENEWING: Final = ContextVar[bool]("tilehaul_renewing", default=False)
# Whether so many wait already that this asker may have what is here, and is not to wait for another machine.
# Set by the service for each request, read where a fetch would begin or be joined.
NO_ROOM: Final = ContextVar[bool]("tilehaul_no_room", default=False)
