from __future__ import annotations

import numpy as np
import pyarrow as pa

from restyle.core.errors import RejectReason
from restyle.pipeline.execution.block import payload_of, to_block
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.ledger.rejects import Reject


def unit(name: str, crops: int) -> AlignedUnit:
    rng = np.random.default_rng(crops)
    made = [
        Crop(
            image_id=f"{number:032x}",
            face=number,
            source=f"{number}.jpg",
            pixels=rng.integers(0, 256, (48, 64, 3), dtype=np.uint8),
            quad=rng.random((4, 2)),
            revision=2,
        )
        for number in range(crops)
    ]
    reject = Reject("f" * 32, "x", "read", RejectReason.EMPTY, "nothing")
    return AlignedUnit(name, crops + 1, made, [reject], 1.5)


def assert_same(one: AlignedUnit, other: AlignedUnit) -> None:
    assert (one.unit, one.images, one.seconds) == (other.unit, other.images, other.seconds)
    assert one.rejects == other.rejects
    for crop, expected in zip(one.crops, other.crops, strict=True):
        assert (crop.image_id, crop.face, crop.source) == (
            expected.image_id,
            expected.face,
            expected.source,
        )
        assert crop.revision == expected.revision
        assert np.array_equal(crop.pixels, expected.pixels)
        assert np.array_equal(crop.quad, expected.quad)


def test_what_is_sealed_comes_out_again() -> None:
    for crops in (0, 1, 5):
        sealed = to_block("u", unit("u", crops))
        assert (sealed.num_rows, sealed.column("unit").to_pylist()) == (1, ["u"])
        assert_same(payload_of(sealed), unit("u", crops))


def test_rows_of_joined_blocks_keep_their_own_arrays() -> None:
    units = [unit("a", 3), unit("b", 0), unit("c", 4)]
    sealed = [to_block(each.unit, each) for each in units]
    for joined in (pa.concat_tables(sealed), pa.concat_tables(sealed).combine_chunks()):
        for row, each in enumerate(units):
            assert_same(payload_of(joined.slice(row, 1)), each)


def test_opening_copies_no_pixels() -> None:
    sealed = to_block("u", unit("u", 5))
    addresses = [crop.pixels.__array_interface__["data"][0] for crop in payload_of(sealed).crops]
    values = sealed.column("buffers").chunk(0).values
    start = values.buffers()[2].address
    assert all(start <= address < start + values.buffers()[2].size for address in addresses)
    assert not payload_of(sealed).crops[0].pixels.flags.writeable
