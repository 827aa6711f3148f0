"""The address of one tile."""

from dataclasses import dataclass

# PMTiles v3 stores ids in 64 bits and TileJSON 3.0 allows zooms 0 to 30.
ZOOM_MAX = 30


@dataclass(frozen=True, slots=True, order=True)
class TileId:
    """Address of one tile in the XYZ scheme: row 0 is the northernmost.

    Not validated, so that walking an area costs nothing: `checked` builds one
    from outside numbers.
    """

    z: int
    x: int
    y: int

    def __str__(self) -> str:
        return f"{self.z}/{self.x}/{self.y}"
