"""Where a bucket is and how it is spoken to, from its location and the environment every S3 tool reads."""

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tilehaul.errors import ConfigError, PlanError
from tilehaul.ports.wire import Signing

# Naming rules of S3 general purpose buckets; R2's are a subset.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_ACCOUNT = re.compile(r"[0-9a-f]{32}\Z")
_PREFIX_CHARS = re.compile(r"[A-Za-z0-9!_.*'()/-]*\Z")
REGION_DEFAULT = "us-east-1"


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """`url`: endpoint, bucket and prefix, ending in `/`. `signing` None: a public bucket, for reading."""

    shown: str
    url: str
    signing: Signing | None


def bucket_place(location: str, environ: Mapping[str, str]) -> BucketPlace:
    """Read `s3://bucket/prefix` or `r2://bucket/prefix`.

    Environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_DEFAULT_REGION,
    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE; R2_ACCOUNT_ID for r2://.

    Raises:
        PlanError: Not such a location.
        ConfigError: A variable is missing or makes no sense.
    """
    scheme, _, rest = location.partition("://")
    bucket, _, prefix = rest.partition("/")
    if _BUCKET.match(bucket) is None:
        raise PlanError(f'"{bucket}" is no name of a bucket: 3 to 63 of a-z, 0-9, "." and "-"')
    prefix = prefix.strip("/")
    if _PREFIX_CHARS.match(prefix) is None or ".." in prefix.split("/"):
        raise PlanError(f'"{prefix}" cannot be a prefix: letters, digits and !_.*\'()- between slashes')
    region, endpoint = _endpoint(scheme.lower(), environ)
    path = f"{bucket}/{prefix}/" if prefix else f"{bucket}/"
    return BucketPlace(
        f"{scheme.lower()}://{path}".rstrip("/"), f"{endpoint}/{path}", _signing(region, environ)
    )


def _endpoint(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Region and endpoint without a slash at its end."""
    asked = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""
    if asked and not asked.lower().startswith(("http://", "https://")):
        raise ConfigError(f"AWS_ENDPOINT_URL_S3 must begin with https:// or http://, not {asked!r}")
    if scheme == "r2":
        if asked:
            return "auto", asked.rstrip("/")
        account = environ.get("R2_ACCOUNT_ID", "")
        if _ACCOUNT.match(account) is None:
            raise ConfigError("r2:// needs R2_ACCOUNT_ID, the 32 hexadecimal digits of your account")
        return "auto", f"https://{account}.r2.cloudflarestorage.com"
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or REGION_DEFAULT
    return region, asked.rstrip("/") or f"https://s3.{region}.amazonaws.com"


def _signing(region: str, environ: Mapping[str, str]) -> Signing | None:
    access, secret = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_SECRET_ACCESS_KEY", "")
    if bool(access) != bool(secret):
        raise ConfigError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are needed both, or neither")
    if access:
        return Signing(region, access, secret, environ.get("AWS_SESSION_TOKEN", ""))
    return _from_file(region, environ)


def _from_file(region: str, environ: Mapping[str, str]) -> Signing | None:
    """The keys of a profile in the shared credentials file, if there is one."""
    named = environ.get("AWS_SHARED_CREDENTIALS_FILE", "")
    path = Path(named) if named else Path(environ.get("HOME", "~")).expanduser() / ".aws" / "credentials"
    profile = environ.get("AWS_PROFILE", "")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        read = parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as a credentials file: {type(error).__name__}") from error
    section = profile or "default"
    if not read or not parser.has_section(section):
        if profile or named:
            raise ConfigError(f"{path} has no profile [{section}]")
        return None
    keys = parser[section]
    access, secret = keys.get("aws_access_key_id", ""), keys.get("aws_secret_access_key", "")
    if not access or not secret:
        raise ConfigError(f"{path}: the profile [{section}] lacks aws_access_key_id or aws_secret_access_key")
    return Signing(region, access, secret, keys.get("aws_session_token", ""))
