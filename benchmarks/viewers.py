"""A log of tile requests as people who look at maps make them.

Places have a popularity (Zipf, exponent 1): a person comes to one of them, at a zoom around 12, and looks at
a window of 5 x 3 tiles. Then they pan by a tile or two (55 %), zoom in (25 %) or out (15 %), or go elsewhere
(5 %), twelve times on average (geometric). What their browser has already is not asked for again. Sessions
overlap: fifty people are there at any time, and whoever acts next is drawn. A share of the requests may be a
scan: a program that walks a region at one zoom, row by row.

Everything follows from a seed. Sizes of tiles are log-normal (median 15 kB, sigma 0.8), by address.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

PLACES = 5_000
PEOPLE = 50
WINDOW = (5, 3)
ACTIONS_MEAN = 12
ZOOM_MEAN, ZOOM_SIGMA, ZOOM_MIN, ZOOM_MAX = 12.0, 1.5, 3, 17
SIZE_MEDIAN, SIZE_SIGMA = 15_000, 0.8
SCAN_ZOOM = 13

Tile = tuple[int, int, int]


@dataclass(slots=True)
class Person:
    """Where somebody is: x and y are shares of the world."""

    x: float
    y: float
    zoom: int
    left: int
    seen: set[Tile] = field(default_factory=set)


class Viewers:
    """Requests without end. `scan_share` of them are a scan's."""

    def __init__(self, seed: int, *, scan_share: float = 0.0) -> None:
        self._luck = random.Random(seed)
        self._scan_share = scan_share
        self._scan_at = 0
        luck = self._luck
        self._places = [(luck.random(), 0.15 + 0.6 * luck.random()) for _ in range(PLACES)]
        weights = [1.0 / rank for rank in range(1, PLACES + 1)]
        self._weights = _running(weights)
        self._people = [self._arrive() for _ in range(PEOPLE)]

    def __iter__(self) -> Iterator[Tile]:
        luck = self._luck
        while True:
            if luck.random() < self._scan_share:
                # As many as a person's act asks for on average.
                yield from self._scan(6)
                continue
            at = luck.randrange(PEOPLE)
            yield from self._act(at)

    def _arrive(self) -> Person:
        luck = self._luck
        (x, y) = self._places[luck.choices(range(PLACES), cum_weights=self._weights)[0]]
        zoom = min(max(round(luck.gauss(ZOOM_MEAN, ZOOM_SIGMA)), ZOOM_MIN), ZOOM_MAX)
        actions = 1 + int(math.log(1.0 - luck.random()) / math.log(1.0 - 1.0 / ACTIONS_MEAN))
        return Person(x, y, zoom, actions)

    def _act(self, at: int) -> Iterator[Tile]:
        person, luck = self._people[at], self._luck
        if person.left <= 0:
            person = self._people[at] = self._arrive()
        elif person.seen:
            what = luck.random()
            if what < 0.55:
                step = (1 + (luck.random() < 0.4)) / (1 << person.zoom)
                person.x += luck.choice((-step, 0.0, step))
                person.y += luck.choice((-step, 0.0, step))
            elif what < 0.80:
                person.zoom = min(person.zoom + 1, ZOOM_MAX)
            elif what < 0.95:
                person.zoom = max(person.zoom - 1, ZOOM_MIN)
            else:
                place = luck.choices(range(PLACES), cum_weights=self._weights)[0]
                person.x, person.y = self._places[place]
        person.left -= 1
        side = 1 << person.zoom
        column, row = int(person.x * side), int(person.y * side)
        for dx in range(-(WINDOW[0] // 2), WINDOW[0] // 2 + 1):
            for dy in range(-(WINDOW[1] // 2), WINDOW[1] // 2 + 1):
                tile = (person.zoom, (column + dx) % side, row + dy)
                if 0 <= row + dy < side and tile not in person.seen:
                    person.seen.add(tile)
                    yield tile

    def _scan(self, count: int) -> Iterator[Tile]:
        side = 1 << SCAN_ZOOM
        for _ in range(count):
            yield SCAN_ZOOM, self._scan_at % (side // 4), self._scan_at // (side // 4)
            self._scan_at += 1


def size_of(tile: Tile) -> int:
    """Bytes of a tile, the same for ever."""
    luck = random.Random(hash(tile))
    return max(200, int(SIZE_MEDIAN * math.exp(SIZE_SIGMA * luck.gauss(0.0, 1.0))))


def _running(values: list[float]) -> list[float]:
    total, sums = 0.0, []
    for value in values:
        total += value
        sums.append(total)
    return sums
