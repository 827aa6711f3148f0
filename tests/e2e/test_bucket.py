"""From a tile server into a bucket and out again, by the command line, over real sockets."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tilehaul import blocking
from tilehaul.cli.main import main
from tilehaul.config.buckets import bucket_place
from tilehaul.config.sending import Sending
from tilehaul.errors import ConfigError, PlanError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.bucket import BucketServer, LabBucket
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.plain_png import plain_png
from tilehaul.net.loop_thread import LoopThread
from tilehaul.ports.wire import Signing
from tilehaul.wiring.places import open_archive
from tilehaul.wiring.senders import open_laned


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LabBucket]:
    """A bucket server that the environment names."""
    kept = LabBucket()
    with _served(kept) as url:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "canary-key",
            "AWS_SECRET_ACCESS_KEY": "canary-secret",
            "TILEHAUL_STATE": str(tmp_path / "state"),
        }.items():
            monkeypatch.setenv(name, value)
        yield kept


@contextmanager
def _served(kept: LabBucket) -> Iterator[str]:
    thread = LoopThread()
    server = BucketServer(kept)
    try:
        thread.run(server.__aenter__())
        yield server.url
        thread.run(server.__aexit__(None, None, None))
    finally:
        thread.close()


def test_seed_into_a_bucket_and_out_again(
    bucket: LabBucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, resumed with no request, listed, copied with the same bytes; no secret is told."""
    with MockThread(MockSettings(faults=Faults(shares={"short_length": 0.1}))) as server:
        arguments = ["seed", server.template, "s3://tiles/world", "-z", "0-3", "--quiet"]
        assert main(arguments) == 0
        asked = server.stats().requests
        puts = bucket.counts.by_method["PUT"]
        assert main(arguments) == 0
        assert (server.stats().requests, bucket.counts.by_method["PUT"]) == (asked, puts)
    assert len([key for key in bucket.objects if key.endswith(".png")]) == 85
    assert main(["info", "s3://tiles/world", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["tiles"], told["state"], told["kind"]) == (85, "complete", "bucket")
    copy = tmp_path / "copy.mbtiles"
    assert main(["seed", "s3://tiles/world", str(copy), "-z", "0-3", "--json"]) == 0
    said = capsys.readouterr()
    assert "canary-secret" not in said.out + said.err
    assert _bodies(copy) == {
        key.removeprefix("world/").removesuffix(".png"): kept.body
        for key, kept in bucket.objects.items()
        if key.endswith(".png")
    }


def test_flags_for_requests_act_on_a_bucket_that_is_copied_into(
    bucket: LabBucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between archives of this machine they are refused; here one failure ends the job, or does not."""
    folder = tmp_path / "a/0/0"
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(plain_png(TileId(0, 0, 0)))
    command = [
        "copy",
        str(tmp_path / "a"),
        "s3://tiles/copy",
        "--quiet",
        "-c",
        "1",
        "--fixed",
        "--timeout",
        "5",
    ]
    bucket.faults.append(500)
    assert main([*command, "--retries", "0", "--contact", "me@example.com"]) == 5
    assert "s3://tiles/copy" in capsys.readouterr().err
    bucket.faults.append(500)
    assert main([*command, "--retries", "1"]) == 0
    assert [key for key in bucket.objects if key.endswith(".png")] == ["copy/0/0/0.png"]


def _bodies(path: Path) -> dict[str, bytes]:
    async def read() -> dict[str, bytes]:
        archive = open_archive(str(path))
        found = {str(i): (await archive.get(i)).body async for i in archive.tile_ids()}  # type: ignore[union-attr]
        await archive.close()
        return found

    return asyncio.run(read())


def test_a_bucket_that_refuses_ends_the_job_with_exit_5(
    bucket: LabBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.faults.extend([403] * 100)
    with MockThread() as server:
        assert main(["seed", server.template, "s3://tiles/world", "-z", "0-1", "--quiet"]) == 5
    said = capsys.readouterr().err
    assert "s3://tiles/world" in said
    assert "canary-secret" not in said


ENVIRON = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": "/nowhere"}


def test_places_and_keys_from_the_environment(tmp_path: Path) -> None:
    place = bucket_place("s3://tiles/a/b/", ENVIRON | {"AWS_REGION": "eu-west-1", "AWS_SESSION_TOKEN": "t"})
    assert (place.shown, place.url) == ("s3://tiles/a/b", "https://s3.eu-west-1.amazonaws.com/tiles/a/b/")
    assert place.signing == Signing("eu-west-1", "key", "secret", "t")
    account = "0123456789abcdef" * 2
    place = bucket_place("r2://tiles", ENVIRON | {"R2_ACCOUNT_ID": account})
    assert place.url == f"https://{account}.r2.cloudflarestorage.com/tiles/"
    assert bucket_place("s3://tiles", {"HOME": "/nowhere"}).signing is None
    shared = tmp_path / "credentials"
    shared.write_text("[maps]\naws_access_key_id = a%b\naws_secret_access_key = s\n", encoding="utf-8")
    profile = {"AWS_SHARED_CREDENTIALS_FILE": str(shared), "AWS_PROFILE": "maps"}
    assert bucket_place("s3://tiles", profile).signing == Signing("us-east-1", "a%b", "s")


@pytest.mark.parametrize(
    ("location", "environ", "words"),
    [
        ("s3://", {}, "name of a bucket"),
        ("s3://Tiles", {}, "name of a bucket"),
        ("s3://tiles/a?b", {}, "prefix"),
        ("s3://tiles/../b", {}, "prefix"),
        ("r2://tiles", {}, "R2_ACCOUNT_ID"),
        ("s3://tiles", {"AWS_ACCESS_KEY_ID": "a"}, "both"),
        ("s3://tiles", {"AWS_ENDPOINT_URL_S3": "localhost:9000"}, "https://"),
        ("s3://tiles", {"AWS_PROFILE": "nobody", "HOME": "/nowhere"}, "nobody"),
    ],
)
def test_nonsense_is_told_of_before_anything_is_sent(
    location: str, environ: dict[str, str], words: str
) -> None:
    with pytest.raises((PlanError, ConfigError), match=words):
        bucket_place(location, environ)


def test_a_bucket_as_source_of_a_missing_tile(bucket: LabBucket) -> None:
    """An empty bucket is no error: there is nothing in it."""
    with blocking.open("s3://tiles/empty") as source:
        assert getattr(source.get(TileId(1, 0, 0)), "cause", "") == "not_stored"
    assert list(blocking.missing("s3://tiles/empty", Area.from_bbox(-180, -85, 180, 85, [1]))) == [
        TileId(1, 0, 0),
        TileId(1, 0, 1),
        TileId(1, 1, 1),
        TileId(1, 1, 0),
    ]
    assert bucket.counts.by_method["PUT"] == 0


def test_a_rate_limit_is_the_source_bucket_s_and_not_the_store_s(
    bucket: LabBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []

    def spy(sending: Sending, *args: Any, **options: Any) -> Any:
        rates.append(sending.rate_limit)
        return open_laned(sending, *args, **options)

    with MockThread() as server:
        assert main(["seed", server.template, "s3://tiles/world", "-z", "0", "--quiet"]) == 0
    monkeypatch.setattr("tilehaul.wiring.places.open_laned", spy)
    flags = ["-z", "0", "--rate-limit", "500", "--quiet"]
    assert main(["seed", "s3://tiles/world", "s3://tiles/other", *flags]) == 0
    assert sorted(rates, key=str) == [500.0, None]


@pytest.mark.parametrize("flag", ["--update", "--overwrite", ""])
def test_a_copy_forced_into_a_bucket_without_a_journal(
    bucket: LabBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    """What differs is replaced when it was compared or is to be overwritten; else what is there stays."""
    copy = tmp_path / "copy.mbtiles"
    with MockThread() as server:
        for store in ("s3://tiles/world", str(copy)):
            assert main(["seed", server.template, store, "-z", "0-2", "--quiet"]) == 0
    whole = dict(bucket.objects)
    other = replace(whole["world/2/1/1.png"], body=b"other bytes")
    bucket.objects["world/2/1/1.png"] = bucket.objects["world/2/3/3.jpg"] = other
    del bucket.objects["world/2/3/3.png"]
    monkeypatch.setenv("TILEHAUL_STATE", str(tmp_path / "another"))
    bucket.counts.by_method.clear()
    flags = [flag, "--force-source", "--quiet"] if flag else ["--force-source", "--quiet"]
    assert main(["copy", str(copy), "s3://tiles/world", *flags]) == 0
    tiles = {key: kept.body for key, kept in bucket.objects.items() if key != "world/metadata.json"}
    asked = bucket.counts.by_method
    if not flag:
        assert (asked["PUT"], asked["DELETE"]) == (1, 0)
        assert (tiles["world/2/1/1.png"], tiles["world/2/3/3.jpg"]) == (b"other bytes",) * 2
        return
    assert (asked["PUT"], asked["DELETE"]) == ((2 if flag == "--update" else 21) + 1, 1)
    assert tiles == {key: kept.body for key, kept in whole.items() if key != "world/metadata.json"}
