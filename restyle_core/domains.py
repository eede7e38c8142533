"""Domains: defaults of the models for one kind of picture. Imports no torch.

A domain is one entry of the table below. Other packages register theirs in the entry point group
``restyle.domains``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from restyle.core.registry import Registry

_WITHOUT_FACES = ("l2", "ms_ssim", "lpips")
DEFAULT_METRICS = (*_WITHOUT_FACES, "id_similarity")


@dataclass(frozen=True)
class DomainPreset:
    """How the models of a domain were trained, where they do not say it themselves.

    Attributes:
        name: of the domain.
        datasets: names that published checkpoints give to its data sets; also found as words of
            longer ones, as in ``celebs_super_resolution``.
        sizes: sides of the published generators' images in pixels.
        image_size: height and width of the encoder's input in pixels.
        output_rows: first and one-past-last row that are kept of a generated image of the first of
            these sizes; None for all. See :meth:`rows_at`.
        align: find and align faces in photographs.
        framing_scale: side of the aligned crop relative to the FFHQ quad.
        framing_shift: displacement of the crop towards the chin, in units of the quad's side.
        metrics: measured when the user names none; those that need faces only where photographs
            are aligned.
        truncation: psi at which random samples are shown: their share of the distance to the
            average.
        position: in lists, among this project's own.
    """

    name: str
    datasets: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    image_size: tuple[int, int] = (256, 256)
    output_rows: tuple[int, int] | None = None
    align: bool = False
    framing_scale: float = 1.0
    framing_shift: float = 0.0
    metrics: tuple[str, ...] = DEFAULT_METRICS
    truncation: float = 0.7
    position: int = 100

    def rows_at(self, size: int) -> tuple[int, int] | None:
        """``output_rows`` of generated images of another size, at the same heights.

        Args:
            size: side of the generated images in pixels.
        """
        if self.output_rows is None or not self.sizes:
            return self.output_rows
        first, last = self.output_rows
        return first * size // self.sizes[0], last * size // self.sizes[0]


_OWN = (
    DomainPreset(
        "faces",
        datasets=("ffhq", "celeba", "celebahq", "celebs", "metfaces", "portraits", "toonify"),
        sizes=(1024, 256),
        align=True,
    ),
    # Generated at 512 x 512, of which the rows in between are the picture: 512 x 384.
    DomainPreset(
        "cars",
        sizes=(512,),
        image_size=(192, 256),
        output_rows=(64, 448),
        metrics=_WITHOUT_FACES,
        truncation=0.5,
    ),
    DomainPreset(
        "church", datasets=("churches",), sizes=(256,), metrics=_WITHOUT_FACES, truncation=0.5
    ),
    DomainPreset("horse", sizes=(256,), metrics=_WITHOUT_FACES, truncation=0.5),
    DomainPreset("wild", datasets=("afhq_wild", "afhqwild"), sizes=(512,), metrics=_WITHOUT_FACES),
)

DOMAINS: Registry[DomainPreset] = Registry(DomainPreset, "domain", lambda: _OWN, "restyle.domains")
"""Every domain there is, by name."""


def preset_of(domain: str) -> DomainPreset:
    """The preset of a domain; one with nothing special where it has none.

    Raises:
        SpecError: the package that brings it cannot be used.
    """
    return DOMAINS.get(domain) or DomainPreset(domain)


def preset_of_dataset(dataset: str) -> DomainPreset:
    """The preset of the models that were trained on a data set.

    Args:
        dataset: name of a data set, or of a domain itself; one that is not known is a domain of its
            own with nothing special.

    Raises:
        SpecError: a package that brings a domain cannot be used.
    """
    for preset in DOMAINS.values():
        if dataset in preset.datasets:
            return preset
    return preset_of(dataset)


def preset_named_in(dataset: str) -> DomainPreset | None:
    """The preset of the one domain that the name of a data set speaks of, as ``my_faces`` does.

    Args:
        dataset: any name.

    Returns:
        None where it speaks of no domain, or of several.

    Raises:
        SpecError: a package that brings a domain cannot be used.
    """
    words = _words(dataset)
    found = [
        preset
        for preset in DOMAINS.values()
        if any(_words(name) in words for name in (preset.name, *preset.datasets))
    ]
    return found[0] if len(found) == 1 else None


def _words(name: str) -> str:
    """The words of a name, singular and in lower case, with a space before and behind each."""
    words = re.findall(r"[a-z]+|\d+", name.lower())
    return "".join(f" {word.removesuffix('s')} " for word in words)
