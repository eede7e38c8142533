"""Removal of inputs from the manifest, the last step, because it alone knows their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from restyle.pipeline.ledger.manifest import Unit, images_of, read_plans, replace_plan
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.sources.source_image import SourceImage


def planned_images(output: Output, is_asked: Callable[[SourceImage], bool]) -> list[SourceImage]:
    """Find planned inputs.

    Args:
        output: the output.
        is_asked: whether an input is wanted.

    Raises:
        FatalError: a plan is damaged.
    """
    return [
        image
        for file in read_plans(output.storage)
        for ref in file.units
        for image in images_of(output.storage, file, ref.group)
        if is_asked(image)
    ]


def remove_planned(output: Output, image_ids: frozenset[str], names: frozenset[str]) -> None:
    """Write the plans again without some inputs, and remove plans without inputs.

    Safe to kill at any moment and to call again.

    Args:
        output: the output; its snapshot must be read again afterwards.
        image_ids: the inputs.
        names: their sources; a plan whose ``INPUT`` is one of them no longer says so.
    """
    storage = output.storage
    for file in list(read_plans(storage)):
        units, changed = [], False
        for ref in file.units:
            images = images_of(storage, file, ref.group)
            left = tuple(image for image in images if image.image_id not in image_ids)
            changed |= len(left) < len(images)
            if left:
                is_whole = len(left) == len(images) and ref.name not in file.shortened
                units.append(Unit(ref.name, left, is_whole))
        origin = file.origin
        if origin.input in names:
            origin, changed = replace(origin, input=""), True
        if not units:
            storage.delete(file.name)
        elif changed:
            replace_plan(storage, file.name, units, origin)
