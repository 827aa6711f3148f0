"""`tilehaul serve --jobs`: the flag and the file together, and what is refused before anything listens."""

import argparse
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.cli.serve import add_parser, settings_of


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["serve", *words])


def test_the_flag_is_over_the_file_and_keeps_its_key(tmp_path: Path) -> None:
    """`--jobs` names the folder; the rest is the file's."""
    file = tmp_path / "tilehaul.yaml"
    file.write_text("jobs: {folder: elsewhere, key: kkkkkkkkkkkkkkkk, running_max: 5}\n")
    jobs = settings_of(parsed("a.mbtiles", "--config", str(file), "--jobs", "here")).jobs
    assert jobs is not None
    assert (jobs.folder, jobs.key, jobs.running_max) == ("here", "k" * 16, 5)
    alone = settings_of(parsed("a.mbtiles", "--jobs", "here")).jobs
    assert alone is not None
    assert (alone.folder, alone.key) == ("here", "")
    assert settings_of(parsed("a.mbtiles")).jobs is None


def test_jobs_for_everybody_without_a_key_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A usage error that says what to do, and no folder is made."""
    folder = tmp_path / "stores"
    code = main(["serve", str(tmp_path), "--port", "0", "--host", "0.0.0.0", "--jobs", str(folder)])
    assert code == 2
    assert "set a key, or listen on 127.0.0.1" in capsys.readouterr().err
    assert not folder.exists()
