"""Directories of a PMTiles v3 archive: which bytes are which tile.

Source: PMTiles specification v3, "Directories", "Directory Serialization". A directory is five columns of
varints: count, id steps, runs, lengths, offsets. A run of 0 names a leaf directory instead of tiles.
"""

from array import array
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tilehaul.codec.pmtiles import (
    MIB,
    PmtilesHeader,
    Span,
    damaged,
    packed,
    unpacked,
)

# One past the last id of zoom 30 (`grid/hilbert.py`).
ID_STOP = ((1 << 2 * 31) - 1) // 3
# Writers cut leaves of some thousand entries; a world of zoom 14 in leaves of a root of 16 KiB needs 150,000.
ENTRIES_MAX = 1 << 20
DIRECTORY_BYTES_MAX = 16 * MIB
# The root counts. Nobody writes more than two; the specification names no limit.
DEPTH_MAX = 4
# Column sums stay below this: SQLite, array("q") and os.pread end there.
_NUMBER_STOP = 1 << 63
RUN_MAX = (1 << 32) - 1
LENGTH_MAX = (1 << 32) - 1


class Entry(NamedTuple):
    """`run` tiles from `first` on have the same bytes, `length` > 0 at `offset` of the tile data."""

    first: int
    run: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Directory:
    """Columns of equal length, ids ascending; runs of two entries never overlap."""

    ids: "array[int]"
    runs: "array[int]"
    lengths: "array[int]"
    offsets: "array[int]"

    def entry(self, at: int) -> Entry:
        return Entry(self.ids[at], self.runs[at], self.offsets[at], self.lengths[at])

    def find(self, number: int) -> Entry | None:
        """The entry that holds tile `number`, or names the leaf that may (run 0)."""
        at = bisect_right(self.ids, number) - 1
        if at < 0:
            return None
        run = self.runs[at]
        return self.entry(at) if not run or number - self.ids[at] < run else None


def parse_directory(
    body: bytes, *, tile_stop: int, leaf_stop: int, ids: tuple[int, int], is_root: bool = False
) -> Directory:
    """A directory from its bytes, decompressed.

    Args:
        body: All of it and nothing behind.
        tile_stop: Length of the tile data in bytes: tiles lie within.
        leaf_stop: Length of the leaf section in bytes: leaves lie within.
        ids: The half-open range its ids lie in, from the entry that named it.
        is_root: It may be without an entry. The specification forbids that since 3.1, and other programs
            write an archive without a tile so: nothing is missing in it.

    Raises:
        DataError: Cut off, or any number that makes no sense (`corrupt_archive`).
    """
    numbers = _varints(body)
    count = numbers[0] if numbers else 0
    if is_root and len(numbers) == 1 and not count:
        return Directory(array("q"), array("q"), array("q"), array("q"))
    if not 0 < count <= ENTRIES_MAX:
        raise damaged(f"a directory of {count} entries; 1 to {ENTRIES_MAX} are allowed")
    if len(numbers) != 4 * count + 1:
        raise damaged(
            f"a directory promises {count} entries and has {len(numbers) - 1} of {4 * count} numbers"
        )
    steps, runs, lengths, codes = (numbers[1 + count * at : 1 + count * (at + 1)] for at in range(4))
    columns = Directory(array("q"), runs, lengths, array("q"))
    number = offset = stop = 0
    low, high = ids
    for at in range(count):
        step, run, length, code = steps[at], runs[at], lengths[at], codes[at]
        number += step
        if number >= high or number < low or (at and not step) or number < stop:
            raise damaged(f"entry {at} of a directory is about tile {number}, out of order")
        stop = number + run
        if stop > high or run > RUN_MAX or not 0 < length <= LENGTH_MAX:
            raise damaged(f"entry {at} of a directory: a run of {run} tiles of {length} bytes")
        if code:
            offset = code - 1
        elif not at:
            raise damaged("the first entry of a directory has no offset")
        if offset + length > (tile_stop if run else leaf_stop):
            raise damaged(f"entry {at} of a directory points to byte {offset + length}, behind the end")
        columns.ids.append(number)
        columns.offsets.append(offset)
        offset += length
    return columns


def _varints(body: bytes) -> "array[int]":
    """Every number of a body (little-endian base 128). DataError for one beyond 63 bits or cut off."""
    numbers = array("q")
    add = numbers.append
    value = shift = 0
    for byte in body:
        if byte < 0x80:
            value |= byte << shift
            if value >= _NUMBER_STOP:
                raise damaged("a directory has a number beyond 63 bits")
            add(value)
            value = shift = 0
        else:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise damaged("a directory has a number beyond 63 bits")
    if shift:
        raise damaged("a directory is cut off")
    return numbers


def directory_bytes(entries: Iterable[Entry]) -> bytes:
    """A directory as the archive keeps it, decompressed. Ids ascend."""
    rows = list(entries)
    steps, codes = [], []
    number = stop = 0
    for at, (first, _, offset, length) in enumerate(rows):
        steps.append(first - number)
        codes.append(0 if at and offset == stop else offset + 1)
        number, stop = first, offset + length
    out = bytearray()
    for column in ([len(rows)], steps, [row.run for row in rows], [row.length for row in rows], codes):
        for value in column:
            left = value
            while left > 0x7F:
                out.append(left & 0x7F | 0x80)
                left >>= 7
            out.append(left)
    return bytes(out)


class DirectoryBuilder:
    """Entries in order of id become leaves, handed out as they fill, and at last a root.

    Neighbours with the same bytes become one entry. Holds one leaf and the root.
    """

    def __init__(self, leaf_entries: int) -> None:
        self._leaf_entries = leaf_entries
        self._rows: list[Entry] = []
        self._root: list[Entry] = []
        self._leaf_stop = 0
        self.entries = 0
        self.addressed = 0

    def add(self, number: int, offset: int, length: int) -> bytes:
        """Add one tile; the bytes of a leaf that this tile did not fit into any more, mostly none."""
        self.addressed += 1
        rows = self._rows
        if rows:
            first, run, last_offset, _ = rows[-1]
            if last_offset == offset and first + run == number and run < RUN_MAX:
                rows[-1] = Entry(first, run + 1, offset, length)
                return b""
        leaf = self._leaf() if len(rows) >= self._leaf_entries else b""
        self._rows.append(Entry(number, 1, offset, length))
        self.entries += 1
        return leaf

    def end(self, root_bytes_max: int) -> tuple[bytes, bytes]:
        """The last leaf, if there is any, and the root, both compressed.

        The root may be larger than `root_bytes_max`: then the leaves were too small.
        """
        if not self._root:
            root = packed(directory_bytes(self._rows))
            if len(root) <= root_bytes_max:
                return b"", root
        leaf = self._leaf() if self._rows else b""
        return leaf, packed(directory_bytes(self._root))

    def _leaf(self) -> bytes:
        body = packed(directory_bytes(self._rows))
        self._root.append(Entry(self._rows[0].first, 0, self._leaf_stop, len(body)))
        self._leaf_stop += len(body)
        self._rows = []
        return body


# What a search or a walk asks for and is given: bytes of the file, exactly so many.
Reads = Generator[Span, bytes, "Entry | None"]


class Directories:
    """The directories of one archive; leaves are kept while there is room.

    Does no reading of its own: `find` is a generator that is sent the bytes of each span it yields.

    Args:
        header: The archive's.
        head: The first bytes of the file, root directory included.
        entries_max: Entries of leaves kept, 32 bytes each.
    """

    def __init__(self, header: PmtilesHeader, head: bytes, *, entries_max: int = 1 << 19) -> None:
        self.header = header
        root = header.root
        self.root = self._parsed(head[root.offset : root.stop], (0, ID_STOP), is_root=True)
        self._entries_max = entries_max
        self._kept: dict[int, Directory] = {}
        self._entries = 0

    def find(self, number: int) -> Reads:
        """Returns the entry of a tile, or None. Raises DataError."""
        directory, ids = self.root, (0, ID_STOP)
        for _ in range(DEPTH_MAX):
            entry = directory.find(number)
            if entry is None or entry.run:
                return entry
            # What follows in the directory bounds the leaf: narrower each time, so no loop goes on.
            ids = (entry.first, _next_id(directory, number, ids[1]))
            directory = yield from self._leaf(entry, ids)
        raise damaged(f"its directories are more than {DEPTH_MAX} deep")

    def walk(self, after: int) -> "Generator[Span | list[Entry], bytes, None]":
        """Yields spans to be sent, as `find`, and lists of the entries that hold tiles beyond `after`."""
        yield from self._walk(self.root, (0, ID_STOP), after, 1)

    def _walk(
        self, directory: Directory, ids: tuple[int, int], after: int, depth: int
    ) -> "Generator[Span | list[Entry], bytes, None]":
        count = len(directory.ids)
        found: list[Entry] = []
        for at in range(max(bisect_right(directory.ids, after) - 1, 0), count):
            entry = directory.entry(at)
            if entry.run:
                if entry.first + entry.run > after + 1:
                    found.append(entry)
                continue
            if found:
                yield found
                found = []
            if depth >= DEPTH_MAX:
                raise damaged(f"its directories are more than {DEPTH_MAX} deep")
            within = (entry.first, directory.ids[at + 1] if at + 1 < count else ids[1])
            leaf = yield from self._leaf(entry, within)
            yield from self._walk(leaf, within, after, depth + 1)
        if found:
            yield found

    def _leaf(self, entry: Entry, ids: tuple[int, int]) -> Generator[Span, bytes, Directory]:
        kept = self._kept.pop(entry.offset, None)
        if kept is None:
            if entry.length > DIRECTORY_BYTES_MAX:
                raise damaged(f"a directory of {entry.length} bytes; {DIRECTORY_BYTES_MAX} are allowed")
            body = yield Span(self.header.leaves.offset + entry.offset, entry.length)
            kept = self._parsed(body, ids)
            # Another search may have read it meanwhile.
            other = self._kept.pop(entry.offset, None)
            self._entries += len(kept.ids) - (0 if other is None else len(other.ids))
        elif not ids[0] <= kept.ids[0] <= kept.ids[-1] < ids[1]:
            raise damaged("two entries name the same leaf directory")
        # The last asked for is the last to go.
        self._kept[entry.offset] = kept
        while self._entries > self._entries_max and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._entries -= len(self._kept.pop(oldest).ids)
        return kept

    @property
    def empty(self) -> bool:
        """Whether there is no entry, and so no tile."""
        return not self.root.ids

    def _parsed(self, body: bytes, ids: tuple[int, int], *, is_root: bool = False) -> Directory:
        header = self.header
        plain = unpacked(body, header.internal_compression, DIRECTORY_BYTES_MAX, "a directory")
        stops = header.data.length, header.leaves.length
        return parse_directory(plain, tile_stop=stops[0], leaf_stop=stops[1], ids=ids, is_root=is_root)


def _next_id(directory: Directory, number: int, otherwise: int) -> int:
    at = bisect_right(directory.ids, number)
    return directory.ids[at] if at < len(directory.ids) else otherwise


def expanded(entries: Iterable[Entry], after: int) -> Iterator[tuple[int, int, int]]:
    """Id, offset and length of each tile beyond `after`."""
    for first, run, offset, length in entries:
        for number in range(max(first, after + 1), first + run):
            yield number, offset, length
