"""What `info` draws."""

from pathlib import Path

from tilehaul.cli.info import BAR_CHARS_MAX, histogram
from tilehaul.cli.main import main
from tilehaul.codec.verify import verify_tile
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png


def test_bars_grow_with_the_logarithm_and_fit() -> None:
    first, last = histogram({0: 1, 10: 1_048_575}, blocks=False)
    assert first == f"zoom 0  {1:>12}  ##"
    assert last.count("#") == BAR_CHARS_MAX
    assert "\N{FULL BLOCK}" in histogram({3: 5}, blocks=True)[0]
    assert histogram({}, blocks=False) == []


def test_info_writes_a_picture(capsys, tmp_path: Path) -> None:
    (tmp_path / "t/0/0").mkdir(parents=True)
    (tmp_path / "t/0/0/0.png").write_bytes(plain_png(TileId(0, 0, 0)))
    assert main(["info", str(tmp_path / "t"), "--png", str(tmp_path / "where.png")]) == 0
    assert verify_tile((tmp_path / "where.png").read_bytes()) == "image/png"
    assert main(["info", str(tmp_path / "t"), "--png", str(tmp_path / "no" / "where.png")]) == 5
