"""PMTiles headers and directories: byte for byte as the specification has them, and every absurd number."""

import gzip
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.codec.pmtiles import (
    GZIP,
    HEADER_BYTES,
    NONE,
    ROOT_BYTES_MAX,
    PmtilesHeader,
    Span,
    header_bytes,
    packed,
    parse_header,
    parse_metadata,
    unpacked,
)
from tilehaul.codec.pmtiles_directory import (
    DEPTH_MAX,
    ID_STOP,
    Directories,
    DirectoryBuilder,
    Entry,
    directory_bytes,
    expanded,
    parse_directory,
)
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import TileId

HEADER = PmtilesHeader(
    Span(127, 30),
    Span(157, 20),
    Span(177, 5),
    Span(182, 1000),
    7,
    6,
    5,
    clustered=True,
    internal_compression=GZIP,
    tile_compression=NONE,
    tile_type=2,
    zoom_min=1,
    zoom_max=14,
    bounds_deg=(-10.5, -20.25, 30.0, 40.1234567),
    center=(9.75, 10.0, 3),
)


def test_header_is_laid_out_as_the_specification_says() -> None:
    """Each field at its offset, little-endian."""
    head = header_bytes(HEADER)
    assert len(head) == HEADER_BYTES
    assert head[:8] == b"PMTiles\x03"
    offsets = struct.unpack("<11Q", head[8:96])
    assert offsets == (127, 30, 157, 20, 177, 5, 182, 1000, 7, 6, 5)
    assert head[96:102] == bytes([1, 2, 1, 2, 1, 14])
    assert struct.unpack("<4i", head[102:118]) == (-105000000, -202500000, 300000000, 401234567)
    assert head[118] == 3
    assert struct.unpack("<2i", head[119:]) == (97500000, 100000000)
    assert parse_header(head) == HEADER


def changed(offset: int, form: str, value: int) -> bytes:
    head = bytearray(header_bytes(HEADER))
    struct.pack_into(form, head, offset, value)
    return bytes(head)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "begin"),
        (b"PMTiles", "begin"),
        (b"SQLite format 3\0" * 20, "begin"),
        (header_bytes(HEADER)[:100], "within its header"),
        (changed(8, "<Q", 126), "root directory"),
        (changed(16, "<Q", 0), "root directory"),
        (changed(16, "<Q", 16_384), "root directory"),
        (changed(8, "<Q", 2**64 - 1), "root directory"),
        (changed(32, "<Q", 2**40), "metadata have"),
        (changed(40, "<Q", 5), "within the header"),
        (changed(48, "<Q", 2**63), "behind the end"),
        (changed(64, "<Q", 2**62), "behind the end"),
        (changed(96, "<B", 2), "clustered"),
        (changed(97, "<B", 9), "compression"),
        (changed(100, "<B", 15), "zooms"),
        (changed(101, "<B", 31), "zooms"),
    ],
)
def test_header_that_makes_no_sense_is_refused(head: Any, words: Any) -> None:
    with pytest.raises(DataError, match=words) as caught:
        parse_header(head, size_bytes=2000)
    assert caught.value.cause == "corrupt_archive"


@pytest.mark.parametrize(
    ("offset", "value", "words"), [(7, 2, "version 2"), (97, 3, "brotli"), (98, 4, "zstd")]
)
def test_header_that_needs_more_than_is_read_says_so(offset: Any, value: Any, words: Any) -> None:
    with pytest.raises(PlanError, match=words):
        parse_header(changed(offset, "<B", value))


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_metadata_that_are_no_object_are_refused(body: Any) -> None:
    with pytest.raises(DataError):
        parse_metadata(body)
    assert parse_metadata(b"") == {}


def test_directory_is_laid_out_as_the_specification_says() -> None:
    """Count; steps of ids; runs; lengths; offsets plus one, 0 for what follows on."""
    rows = [Entry(5, 2, 0, 300), Entry(8, 1, 300, 1), Entry(300, 0, 7, 9)]
    body = directory_bytes(rows)
    assert list(body) == [3, 5, 3, 0xA4, 2, 2, 1, 0, 0xAC, 2, 1, 9, 1, 0, 8]
    parsed = parse_directory(body, tile_stop=301, leaf_stop=16, ids=(0, ID_STOP))
    assert [parsed.entry(at) for at in range(3)] == rows
    assert [parsed.find(i) for i in (4, 5, 6, 7, 8, 9, 299, 300, 10**9)] == [
        None, rows[0], rows[0], None, rows[1], None, None, rows[2], rows[2],
    ]  # fmt: skip


GOOD = [Entry(5, 2, 0, 300), Entry(8, 1, 300, 1)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "0 entries"),
        (b"\x00", "0 entries"),
        (b"\xff\xff\xff\xff\x0f", "entries"),
        (b"\xff" * 11, "63 bits"),
        (b"\x80" * 9 + b"\x7f", "63 bits"),
        (b"\x01\x85", "cut off"),
        (directory_bytes(GOOD)[:-1], "promises 2"),
        (directory_bytes(GOOD) + b"\0", "promises 2"),
        (bytes([1, 5, 1, 1, 0]), "no offset"),
        (directory_bytes([Entry(5, 1, 0, 0)]), "0 bytes"),
        (directory_bytes([Entry(5, 1, 0, 2**33)]), "bytes"),
        (directory_bytes([Entry(5, 2**33, 0, 1)]), "run of"),
        (directory_bytes([Entry(5, 3, 0, 1), Entry(7, 1, 1, 1)]), "out of order"),
        (directory_bytes([Entry(5, 0, 0, 1), Entry(5, 1, 1, 1)]), "out of order"),
        (directory_bytes([Entry(ID_STOP, 1, 0, 1)]), "out of order"),
        (directory_bytes([Entry(ID_STOP - 1, 2, 0, 1)]), "run of"),
        (directory_bytes([Entry(5, 1, 299, 3)]), "behind the end"),
        (directory_bytes([Entry(5, 0, 0, 17)]), "behind the end"),
    ],
)
def test_directory_that_makes_no_sense_is_refused(body: Any, words: Any) -> None:
    with pytest.raises(DataError, match=words) as caught:
        parse_directory(body, tile_stop=301, leaf_stop=16, ids=(0, ID_STOP))
    assert caught.value.cause == "corrupt_archive"


@given(st.binary(max_size=60))
def test_any_bytes_are_a_directory_or_refused(body: bytes) -> None:
    """Nothing but DataError comes of them; what parses is written the same, save for longer forms."""
    try:
        parsed = parse_directory(body, tile_stop=1000, leaf_stop=1000, ids=(0, ID_STOP))
    except DataError:
        return
    rows = [parsed.entry(at) for at in range(len(parsed.ids))]
    again = parse_directory(directory_bytes(rows), tile_stop=1000, leaf_stop=1000, ids=(0, ID_STOP))
    assert [again.entry(at) for at in range(len(again.ids))] == rows


class Bytes:
    """A file of directories; counts what is read of it."""

    def __init__(self, root: bytes, leaves: bytes, data: int) -> None:
        head = Span(HEADER_BYTES, len(root))
        self.header = PmtilesHeader(
            head, Span(head.stop, 0), Span(head.stop, len(leaves)), Span(head.stop + len(leaves), data)
        )
        self.body = bytes(HEADER_BYTES) + root + leaves
        self.reads = 0

    def read(self, span: Span) -> bytes:
        self.reads += 1
        return self.body[span.offset : span.stop]

    def find(self, directories: Directories, number: int) -> Entry | None:
        steps = directories.find(number)
        try:
            span = next(steps)
            while True:
                span = steps.send(self.read(span))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def walk(self, directories: Directories, after: int) -> list[Entry]:
        steps = directories.walk(after)
        found: list[Entry] = []
        try:
            item = next(steps)
            while True:
                if isinstance(item, Span):
                    item = steps.send(self.read(item))
                else:
                    found += item
                    item = next(steps)
        except StopIteration:
            return found


def built(tiles: dict[int, tuple[int, int]], leaf_entries: int, root_max: int = ROOT_BYTES_MAX) -> Bytes:
    builder = DirectoryBuilder(leaf_entries)
    leaves = b"".join([builder.add(number, *tiles[number]) for number in sorted(tiles)])
    leaf, root = builder.end(root_max)
    assert builder.addressed == len(tiles)
    return Bytes(root, leaves + leaf, max((sum(place) for place in tiles.values()), default=0))


@given(
    st.dictionaries(st.integers(0, 60), st.tuples(st.integers(0, 9), st.just(5)), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(-1, 61),
)
def test_built_directories_are_found_and_walked(
    tiles: dict[int, tuple[int, int]], leaf_entries: int, after: int
) -> None:
    """Every tile, no other, in order; with runs, leaves, and a start anywhere."""
    file = built(tiles, leaf_entries, root_max=0)
    directories = Directories(file.header, file.body)
    for number in range(62):
        found = file.find(directories, number)
        assert (None if found is None else (found.offset, found.length)) == tiles.get(number)
    walked = list(expanded(file.walk(directories, after), after))
    assert walked == [(number, *tiles[number]) for number in sorted(tiles) if number > after]


def test_leaf_is_read_once_and_a_missing_tile_reads_no_more_than_a_hit() -> None:
    file = built({2 * number: (number, 1) for number in range(100)}, 10, root_max=0)
    directories = Directories(file.header, file.body)
    assert file.find(directories, 42) == Entry(42, 1, 21, 1)
    assert file.reads == 1
    assert file.find(directories, 43) is None
    assert file.find(directories, 199) is None
    assert file.reads == 2


def test_leaves_are_kept_only_while_there_is_room() -> None:
    file = built({number: (2 * number, 1) for number in range(100)}, 10, root_max=0)
    directories = Directories(file.header, file.body, entries_max=20)
    for number in (5, 15, 5, 25, 5, 15):
        assert file.find(directories, number) is not None
    # 25 made 15 go, not 5, which was asked for later.
    assert file.reads == 4


def test_neighbours_with_one_body_are_one_entry() -> None:
    file = built(dict.fromkeys(range(1000), (0, 9)), 10)
    assert file.walk(Directories(file.header, file.body), -1) == [Entry(0, 1000, 0, 9)]


def chain(depth: int) -> Bytes:
    """A root and leaves that each name the next, `depth` directories in all, the last with tile 0."""
    leaves = b""
    # From the last to the first, each at a place that is known by then.
    body = packed(directory_bytes([Entry(0, 1, 0, 1)]))
    places: list[Entry] = []
    for _ in range(depth - 1):
        places.append(Entry(0, 0, len(leaves), len(body)))
        leaves += body
        body = packed(directory_bytes([places[-1]]))
    return Bytes(body, leaves, 1)


def test_directories_too_deep_are_refused() -> None:
    file = chain(DEPTH_MAX)
    assert file.find(Directories(file.header, file.body), 0) == Entry(0, 1, 0, 1)
    file = chain(DEPTH_MAX + 1)
    for look in (lambda d: file.find(d, 0), lambda d: file.walk(d, -1)):
        with pytest.raises(DataError, match="deep"):
            look(Directories(file.header, file.body))


@pytest.mark.parametrize("rows", [[Entry(0, 0, 0, 0)], [Entry(n, 0, 0, 0) for n in range(0, 50, 10)]])
def test_directory_that_names_itself_ends(rows: Any) -> None:
    """Uncompressed, so that a leaf can name itself: found out, with few reads, also when walked."""
    size = 0
    for _ in range(4):
        size = len(body := directory_bytes([row._replace(length=size or 1) for row in rows]))
    file = Bytes(body, body, 0)
    header = file.header
    header = PmtilesHeader(
        header.root, header.metadata, header.leaves, header.data, internal_compression=NONE
    )
    for look in (lambda d: file.find(d, 0), lambda d: file.walk(d, -1)):
        with pytest.raises(DataError):
            look(Directories(header, file.body))
    assert file.reads <= 2 * DEPTH_MAX


def test_directory_that_unpacks_without_end_is_refused() -> None:
    with pytest.raises(DataError, match="more than"):
        unpacked(gzip.compress(bytes(2_000_000)), GZIP, 1_000_000, "a directory")


def test_ids_are_those_of_the_specification() -> None:
    """The examples of the specification, "Tile ID"."""
    examples = {(0, 0, 0): 0, (1, 0, 0): 1, (1, 0, 1): 2, (1, 1, 1): 3, (1, 1, 0): 4, (2, 0, 0): 5}
    assert {place: TileId(*place).pmtiles_id for place in examples} == examples
    assert TileId(12, 3423, 1763).pmtiles_id == 19078479
