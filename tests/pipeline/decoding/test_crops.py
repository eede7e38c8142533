"""The crop that a model's domain asks for."""

from __future__ import annotations

import pytest

from restyle.core.networks.config import Domain
from restyle.pipeline.decoding.crops import FACE_CROP, CropSettings


@pytest.mark.parametrize(("align", "size"), [(True, (FACE_CROP, FACE_CROP)), (False, (192, 256))])
def test_a_domain_says_how_images_are_cropped(align: bool, size: tuple[int, int]) -> None:
    domain = Domain(
        name="x", domain="cars", image_size=(192, 256), framing_scale=0.7, framing_shift=0.02
    )
    expected = CropSettings(align, "all", size, framing_scale=0.7, framing_shift=0.02)
    assert CropSettings.of(domain, align, "all") == expected
