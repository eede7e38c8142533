from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq

from restyle.core.errors import RejectReason
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.inversion.rows import given_up
from restyle.pipeline.ledger.rejects import Reject
from tests.pipeline.inversion.test_rows import settings


def test_a_unit_that_is_given_up_rejects_each_image_once() -> None:
    def crop(image: int, face: int) -> Crop:
        pixels = np.zeros((4, 4, 3), np.uint8)
        return Crop(f"{image:032x}", face, f"{image}.jpg", pixels, np.zeros((4, 2)), 1 + image)

    earlier = Reject("f" * 32, "x.jpg", "read", RejectReason.EMPTY, "nothing in it")
    aligned = AlignedUnit("u", 3, [crop(0, 0), crop(0, 1), crop(2, 0)], [earlier], 1.0)
    unit = given_up(aligned, settings(), "it ended its worker")
    assert (unit.unit, unit.images, unit.faces) == ("u", 3, 0)
    assert unit.rejects == {"crashed": 2, "empty": 1}
    assert list(unit.files) == ["rejects"]
    data, count = unit.files["rejects"]
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    assert count == len(rows) == 3
    found = {row["image_id"]: row for row in rows}
    assert set(found) == {"f" * 32, f"{0:032x}", f"{2:032x}"}
    lost = found[f"{2:032x}"]
    assert (lost["stage"], lost["reason"], lost["revision"]) == ("invert", "crashed", 3)
    assert (lost["source"], lost["message"]) == ("2.jpg", "it ended its worker")
