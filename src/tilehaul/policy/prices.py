"""What keeping tiles in a bucket costs, by the list prices of its provider."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BucketPrice:
    """One provider's list prices, in US dollars; what is free each month is not taken off.

    Args:
        name: Provider and class of storage.
        write_usd: Of a million writes (PUT).
        month_usd: Of one GB kept for a month.
        gb_bytes: What the provider calls a GB.
        source, date: Where that is written, and when it was read.
    """

    name: str
    write_usd: float
    month_usd: float
    gb_bytes: int
    source: str
    date: str


# By the scheme of a bucket's address. S3's request price is repeated, and its GB explained, in
# https://c3x.dev/blog/s3-request-fees-explained and https://aws.amazon.com/s3/faqs/; the month's price is
# that of the first 50 TB. R2 does not say which GB it means: the smaller is the dearer.
PRICES = {
    "s3": BucketPrice(
        "Amazon S3 Standard, us-east-1",
        write_usd=5.0,
        month_usd=0.023,
        gb_bytes=2**30,
        source="https://aws.amazon.com/s3/pricing/",
        date="2026-11-27",
    ),
    "r2": BucketPrice(
        "Cloudflare R2 Standard",
        write_usd=4.5,
        month_usd=0.015,
        gb_bytes=10**9,
        source="https://developers.cloudflare.com/r2/pricing/",
        date="2026-11-27",
    ),
}


@dataclass(frozen=True, slots=True)
class BucketCost:
    """`writes` of tiles, one each; `write_usd` once, `month_usd` every month."""

    price: BucketPrice
    writes: int
    write_usd: float
    month_usd: float


def bucket_cost(price: BucketPrice, *, tiles: float, kept_bytes: float) -> BucketCost:
    """Of so many tiles, each written once and by itself, of so many bytes in all."""
    return BucketCost(
        price,
        writes=round(tiles),
        write_usd=tiles * price.write_usd / 1e6,
        month_usd=kept_bytes / price.gb_bytes * price.month_usd,
    )
