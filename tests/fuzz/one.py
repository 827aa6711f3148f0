"""`python -m fuzz.one NAME FOLDER SECONDS [FILE]`: one parser under atheris, or given one file again."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tilehaul"], enable_loader_override=False):
    from fuzz.parsers import PARSERS
    from tilehaul.errors import TilehaulError

# Words that change seldom hits upon by itself: numbers at their ends, and what other parsers live from.
WORDS = (
    "nan",
    "inf",
    "1e308",
    "-1",
    "1e-320",
    "9" * 40,
    "0",
    "null",
    "<![CDATA[",
    "\\x0d\\x0a",
    "%0a",
    "urn:",
    "{z}",
)
RSS_MB_MAX = 1024
TIMEOUT_S = 20


def main() -> None:
    name, folder, seconds, *again = sys.argv[1:]
    parser = PARSERS[name]
    corpus = Path(folder, f"{name}.corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(parser.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    words = Path(folder, "words.dict")
    words.write_text("".join(f'"{word}"\n' for word in WORDS))

    def test_one(body: bytes) -> None:
        try:
            parser.parse(body)
        except TilehaulError as error:
            if len(str(error).splitlines()) > 1:
                raise AssertionError(f"more than one line: {error!r}") from error

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={parser.bytes_max}",
        f"-rss_limit_mb={RSS_MB_MAX}",
        f"-dict={words}",
        f"-timeout={TIMEOUT_S}",
        f"-artifact_prefix={folder}/{name}-",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    atheris.Setup([sys.argv[0], *options, *(again or [str(corpus)])], test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
