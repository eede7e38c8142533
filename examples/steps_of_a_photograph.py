"""Invert the faces of one photograph in memory, and save what each step of refinement made.

::

    python examples/steps_of_a_photograph.py PHOTO PICTURE

PICTURE gets a row for each face: the crop, then the reconstructions of five steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

import restyle
from restyle.core.imaging.preprocessing import to_pictures

STEPS = 5


def main(photo: str, picture: str) -> None:
    """Write the picture and print how close each face came."""
    model = restyle.load_model("faces64")
    image = restyle.decode_image(Path(photo).read_bytes())
    faces = restyle.align_faces(image, size=256, faces="all", framing=model.framing)
    result = restyle.invert(model, [face.image for face in faces], steps=STEPS, metrics=["lpips"])
    side = model.generator.config.size
    sheet = Image.new("RGB", ((1 + STEPS) * side, len(faces) * side))
    for row, face in enumerate(faces):
        with torch.inference_mode():
            made = to_pictures(model.synthesize(result.latents[row]))
        cells = [face.image.resize((side, side)), *made]
        for column, cell in enumerate(cells):
            sheet.paste(cell, (column * side, row * side))
        print(f"face {row}: lpips {result.metrics['lpips'][row, -1]:.4f} after {STEPS} steps")
    sheet.save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
