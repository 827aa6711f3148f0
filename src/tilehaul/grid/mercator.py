"""Spherical Mercator (EPSG:3857), and the whole-number lattice on which areas are compared.

A place is a pair (u, v) of shares of the world: u grows eastward from the antimeridian, v
southward from the northern limit, both in [0, 1].
"""

import math

# Where the projection is square: degrees(atan(sinh(pi))).
LATITUDE_MAX_DEG = 85.0511287798066
# Half the equator of the WGS 84 sphere: pi * 6378137 m (EPSG:3857).
HALF_WORLD_M = 20037508.342789244

# The world is cut into 2^37 steps a side, of which the even ones are used for borders: 0.6 mm apart at
# the equator. Every tile edge down to zoom 30 is a multiple of 2^7 steps, so a border that went through
# degrees and back, or through decimals (ten places at any latitude), lands on the tile's edge and not
# beside it: no epsilon is needed anywhere.
LATTICE_BITS = 37
LATTICE = 1 << LATTICE_BITS


def latitude_deg(v: float) -> float:
    """Latitude of `v`, the share of the world's height counted from the north."""
    return math.degrees(math.atan(math.sinh(math.pi * (1.0 - 2.0 * v))))


def lattice_x(longitude_deg: float) -> int:
    """The even lattice column of a longitude in [-180, 180]: 0..2^37."""
    return 2 * round((longitude_deg + 180.0) / 360.0 * (LATTICE >> 1))


def lattice_y(latitude: float) -> int:
    """The even lattice row of a latitude in degrees, clamped to the Mercator limit: 0 (north)..2^37."""
    clamped = clamp_latitude_deg(latitude)
    v = 0.5 - math.asinh(math.tan(math.radians(clamped))) / (2.0 * math.pi)
    return 2 * min(max(round(v * (LATTICE >> 1)), 0), LATTICE >> 1)


def clamp_latitude_deg(latitude: float) -> float:
    """The latitude within the Mercator limit."""
    return min(max(latitude, -LATITUDE_MAX_DEG), LATITUDE_MAX_DEG)


def metres_of(longitude_deg: float, latitude: float) -> tuple[float, float]:
    """Degrees of WGS 84 in metres of EPSG:3857; the latitude is clamped to the Mercator limit."""
    radius_m = HALF_WORLD_M / math.pi
    northing = radius_m * math.asinh(math.tan(math.radians(clamp_latitude_deg(latitude))))
    return longitude_deg / 180.0 * HALF_WORLD_M, min(max(northing, -HALF_WORLD_M), HALF_WORLD_M)


def degrees_of(easting_m: float, northing_m: float) -> tuple[float, float]:
    """Longitude and latitude of a place in metres of EPSG:3857."""
    return easting_m / HALF_WORLD_M * 180.0, latitude_deg((1.0 - northing_m / HALF_WORLD_M) / 2.0)
