"""Shards that crash their reader, swell in it, or have what no reader expects."""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Two rows, written by Arrow, with one bit of the table of contents changed: a histogram of
# repetition levels is longer than it can be. Arrow notices, and ends the process.
_ABORTS = (
    b"c-oavJC4FY41El<BMJ(L;wYA;NJErjL4Y6?4LwD~2?%J!Qm|wb*j;*#z~ML!j%d?hjpgz0`PtcWJt0jS+N{LD1AGAg"
    b"4N}Li4MHG~yie)wks)JKBz{v}=r^JE`vR*(wQ98$X<p0`nripujyWmJRQPc?=6ff9>JG%)UeB&VpxLsGVX4b=m>wsu"
    b"vR9fUAKaC^_|}R$?^EJ>9n>=+TPZApj18y4Qkd4rI_`);5*2y*b8+Y4t|*3iS)Tr)UsqO#(|0sYN8{0it(BICXeO6_"
    b"0*DA-yZ"
)


def aborting_parquet() -> bytes:
    """366 bytes with one wrong bit: reading a row ends the process, opening it does not."""
    return zlib.decompress(base64.b85decode(_ABORTS))


def written(table: pa.Table, **options: object) -> bytes:
    """A table as a Parquet file."""
    target = io.BytesIO()
    pq.write_table(table, target, **options)
    return target.getvalue()


def empty_rows(count: int) -> bytes:
    """A few kilobytes with any number of rows, all of them null."""
    return written(pa.table({"image": pa.nulls(count, pa.binary())}), compression="zstd")


def repeated_image(size: int, rows: int) -> bytes:
    """A few kilobytes with one large value in every row, stored once, in a dictionary."""
    indices = pa.array([0] * rows, pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array([bytes(size)], pa.binary()))
    return written(
        pa.table({"image": column}), compression="zstd", dictionary_pagesize_limit=2 * size
    )


def swelling_page(size: int) -> bytes:
    """A few kilobytes whose only page is so large when it is unpacked."""
    table = pa.table({"image": pa.array([bytes(size), b"small"], pa.binary())})
    return written(table, compression="zstd", use_dictionary=False, data_page_size=4 * size)


def bad_column_name() -> bytes:
    """A column whose name is not in UTF-8."""
    data = written(pa.table({"imagine": [b"bytes"]}), store_schema=False)
    return data.replace(b"imagine", b"\xff\xfeagine")


def two_images() -> bytes:
    """Two columns of bytes, either of which may be meant."""
    return written(pa.table({"left": [b"l"], "right": [b"r"]}))


def named_alike() -> bytes:
    """Two columns of one name."""
    column = pa.array([b"x"])
    return written(pa.Table.from_arrays([column, column], names=["image", "image"]))


def many_columns() -> bytes:
    """So many columns that their names make a long message."""
    return written(pa.table({f"column number {at}": [at] for at in range(3000)}))


def hostile_shards(folder: Path) -> dict[str, str]:
    """Write all of the above into a folder.

    Returns:
        Of each file, by name, a part of what its rejects must say.
    """
    made = {
        "aborts": (aborting_parquet(), "SIGABRT"),
        "nulls": (empty_rows(20_000_000), "20,000,000 rows in"),
        "name": (bad_column_name(), "cannot be read"),
        "two": (two_images(), "several columns"),
        "alike": (named_alike(), "several columns"),
        "many": (many_columns(), "no column holds images"),
    }
    for name, (data, _) in made.items():
        (folder / f"{name}.parquet").write_bytes(data)
    return {f"{name}.parquet": said for name, (_, said) in made.items()}
