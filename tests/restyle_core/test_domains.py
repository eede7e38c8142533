"""Domains: presets that published checkpoints and default metrics come from, also others'."""

from __future__ import annotations

from pathlib import Path

import pytest

from restyle.core import domains
from restyle.core.checkpoints.domain_choice import choose_domain
from restyle.core.checkpoints.published import domain_settings, published_weights
from restyle.core.domains import DOMAINS, DomainPreset, preset_of, preset_of_dataset
from restyle.core.errors import SpecError
from restyle.core.metrics.registry import check_metrics
from restyle.core.networks.config import EncoderKind
from restyle.core.registry import Registry
from tests.other_package import install
from tests.pipeline.resolved import resolved
from tests.restyle_core.fabricate import checkpoint

TOY = """
from restyle.core.domains import DomainPreset
DOMAIN = DomainPreset(
    "anime", ("danbooru",), image_size=(128, 128), align=True, framing_scale=0.9,
    framing_shift=0.05, metrics=("l2", "id_similarity"),
)
"""


@pytest.fixture
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"restyle.domains": {"anime": "toy_domain:DOMAIN"}}
    monkeypatch.syspath_prepend(install(tmp_path, "toy_domain", TOY, entries))
    fresh = Registry(DomainPreset, "domain", lambda: domains._OWN, "restyle.domains")
    monkeypatch.setattr(domains, "DOMAINS", fresh)


def test_every_preset_can_be_used() -> None:
    assert list(DOMAINS)[:2] == ["cars", "church"]
    owners = [dataset for preset in DOMAINS.values() for dataset in preset.datasets]
    assert len(owners) == len(set(owners))
    for name, preset in DOMAINS.items():
        assert 0 < preset.truncation <= 1
        assert check_metrics(preset.metrics) == preset.metrics
        assert preset_of_dataset(name) is preset_of(name) is preset


# As published: the generator's size, the encoder's input, the picture, and what is measured.
PUBLISHED = {
    ("ffhq_encode", 1024): ("faces", (256, 256), (1024, 1024), True, 0.7),
    ("celeba_encode", 256): ("faces", (256, 256), (256, 256), True, 0.7),
    ("cars_encode", 512): ("cars", (192, 256), (384, 512), False, 0.5),
    ("church_encode", 256): ("church", (256, 256), (256, 256), False, 0.5),
    ("churches", 256): ("church", (256, 256), (256, 256), False, 0.5),
    ("horse_encode", 256): ("horse", (256, 256), (256, 256), False, 0.5),
    ("lsun_horses", 256): ("horse", (256, 256), (256, 256), False, 0.5),
    ("afhq_wild_encode", 512): ("wild", (256, 256), (512, 512), False, 0.7),
    ("afhqwild", 512): ("wild", (256, 256), (512, 512), False, 0.7),
    # Of other sizes than published, the same part of the picture is kept.
    ("cars_encode", 1024): ("cars", (192, 256), (768, 1024), False, 0.5),
    ("cars_encode", 64): ("cars", (192, 256), (48, 64), False, 0.5),
}


@pytest.mark.parametrize(("dataset", "size"), PUBLISHED)
def test_presets_of_the_published_models(dataset: str, size: int) -> None:
    name, image_size, picture, align, truncation = PUBLISHED[dataset, size]
    choice = choose_domain({"dataset_type": dataset}, EncoderKind.RESNET_BACKBONE, size)
    assert choice.preset.name == name
    settings = domain_settings(choice.preset, "some", size)
    assert settings.image_size == image_size
    first, last = settings.output_rows or (0, size)
    assert (last - first, size) == picture
    # The picture's middle is the generated image's.
    assert first + last == size
    assert (settings.align, choice.preset.truncation) == (align, truncation)
    assert ("id_similarity" in choice.preset.metrics) == align
    assert set(choice.preset.metrics) >= {"l2", "ms_ssim", "lpips"}


def test_an_unknown_dataset_is_a_domain_with_nothing_special() -> None:
    assert preset_of_dataset("trains") == preset_of("trains") == DomainPreset("trains")


@pytest.mark.usefixtures("_toy")
@pytest.mark.parametrize("dataset", ["danbooru_encode", "anime", "danbooru"])
def test_a_published_checkpoint_of_another_package_s_domain(dataset: str) -> None:
    content = checkpoint("BackboneEncoder", 64, dataset=dataset)
    found = published_weights(content, Path("mine.pt")).domain
    assert (found.name, found.domain, found.image_size) == ("mine", "anime", (128, 128))
    assert (found.align, found.framing_scale, found.framing_shift) == (True, 0.9, 0.05)


@pytest.mark.usefixtures("_toy")
@pytest.mark.parametrize(
    ("domain", "aligned", "metrics"),
    [
        ("anime", True, ("l2", "id_similarity")),
        ("anime", False, ("l2",)),
        ("faces", True, ("l2", "ms_ssim", "lpips", "id_similarity")),
        ("trains", False, ("l2", "ms_ssim", "lpips")),
    ],
)
def test_default_metrics_are_those_of_the_domain(
    domain: str, aligned: bool, metrics: tuple[str, ...]
) -> None:
    settings = resolved(is_aligned=aligned, domain=domain)
    assert settings.metrics == metrics


def test_a_domain_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {"restyle.domains": {"anime": "broken_domain:NOTHING"}}
    monkeypatch.syspath_prepend(install(tmp_path, "broken_domain", TOY, entries))
    fresh = Registry(DomainPreset, "domain", lambda: domains._OWN, "restyle.domains")
    monkeypatch.setattr(domains, "DOMAINS", fresh)
    with pytest.raises(SpecError, match="the domain anime of broken_domain cannot be used"):
        preset_of_dataset("danbooru")
