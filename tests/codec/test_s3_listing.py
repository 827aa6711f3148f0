"""Listings of buckets: what servers send, and what nobody should."""

import pytest

from tilehaul.codec.s3_listing import KeyPage, parse_listing
from tilehaul.errors import DataError

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def listing(inner: str, space: str = SPACE) -> bytes:
    return f"<?xml version='1.0'?><ListBucketResult{space}>{inner}</ListBucketResult>".encode()


@pytest.mark.parametrize("space", ["", SPACE])
def test_keys_sizes_folders_and_the_next_page(space: str) -> None:
    body = listing(
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>a+b=</NextContinuationToken>"
        "<Contents><Key>p/1%2B2.png</Key><Size>12</Size></Contents>"
        "<CommonPrefixes><Prefix>p/3/</Prefix></CommonPrefixes>",
        space,
    )
    assert parse_listing(body) == KeyPage((("p/1+2.png", 12),), ("p/3/",), "a+b=")


def test_without_encoding_a_percent_sign_is_a_percent_sign() -> None:
    page = parse_listing(listing("<Contents><Key>1%2B2</Key><Size>0</Size></Contents>"))
    assert page.keys == (("1%2B2", 0),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe<",
        b"<html></html>",
        b"not XML",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><ListBucketResult>&a;</ListBucketResult>',
        listing("<Contents><Key>a</Key><Size>many</Size></Contents>"),
        listing(f"<Contents><Key>a</Key><Size>{'1' * 5000}</Size></Contents>"),
        listing("<Contents><Size>1</Size></Contents>"),
        listing("<IsTruncated>true</IsTruncated>"),
    ],
)
def test_what_is_no_listing_is_told_of(body: bytes) -> None:
    with pytest.raises(DataError) as raised:
        parse_listing(body)
    assert raised.value.cause == "bad_listing"
