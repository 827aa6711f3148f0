"""What `tilehaul` offers, and that its papers are true."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tilehaul

ROOT = Path(__file__).parents[2]


def test_every_public_name_can_be_had() -> None:
    assert sorted(tilehaul.__all__) == tilehaul.__all__
    for name in tilehaul.__all__:
        assert getattr(tilehaul, name) is not None
    with pytest.raises(AttributeError):
        tilehaul.nothing  # noqa: B018


def test_import_is_light() -> None:
    code = "import sys, tilehaul; print(sorted(set(sys.modules) & {'asyncio', 'pycurl', 'apsw', 'msgspec'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "requirements.lock",
        "requirements-browser.lock",
        "requirements-mutants.lock",
        "requirements-fuzz.lock",
        "requirements-servers.lock",
        "requirements-mapproxy.lock",
    ],
)
def test_lock_files_have_hashes_and_name_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "--hash=sha256:" in text
    assert not re.search(r"https?://|file:|--index-url|--extra-index", text)


def test_lock_of_npm_packages_has_hashes_and_names_no_host() -> None:
    """As `npm install --package-lock-only --omit-lockfile-registry-resolved` writes it."""
    lock = ROOT / "tests" / "browser" / "clients" / "package-lock.json"
    packages = json.loads(lock.read_text())["packages"]
    assert all(each["integrity"].startswith("sha512-") for name, each in packages.items() if name)
    assert not [name for name, each in packages.items() if "resolved" in each]


def test_changelog_names_this_version_or_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or f"## {tilehaul.__version__}" in text


@pytest.mark.parametrize("paper", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_papers_lead_somewhere(paper: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / paper).read_text()):
        if "://" not in target:
            assert (ROOT / target).exists(), f"{paper} links to {target}"


def test_architecture_names_only_files_that_exist() -> None:
    """`file.py` words in the map are real files."""
    words = set(re.findall(r"`([a-z_/]*\b[a-z_]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text()))
    places = [path.as_posix() for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert words
    for word in words:
        assert any(place.endswith("/" + word) for place in places), word


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "src" / "tilehaul" / "cli").glob("*.py"):
        if "def add_parser" in path.read_text():
            assert f"tilehaul {path.stem.replace('_', ' ')}" in readme


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports them by their bare names and would stop at the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
