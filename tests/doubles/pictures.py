"""Small pictures that are no two places alike, drawn without a library of ours."""

import random
from pathlib import Path

from PIL import Image


def noisy(width: int, height: int, mode: str = "RGB", *, seed: int = 1) -> Image.Image:
    """Soft noise: every place differs, and JPEG does not suffer from it."""
    luck = random.Random(seed)
    small = Image.frombytes(
        "RGB",
        (max(2, width // 8), max(2, height // 8)),
        luck.randbytes(max(2, width // 8) * max(2, height // 8) * 3),
    )
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    if mode in {"RGBA", "LA"}:
        picture.putalpha(picture.getchannel("G"))
    return picture.convert(mode)


def save_noisy(path: Path, width: int, height: int, mode: str = "RGB", *, seed: int = 1, **options) -> Path:
    noisy(width, height, mode, seed=seed).save(path, **options)
    return path
