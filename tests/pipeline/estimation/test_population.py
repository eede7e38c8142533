"""Random samples of a manifest, and inputs of which only some shards are opened."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.estimation import population as module
from restyle.pipeline.estimation.population import Population, list_population, population_of
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import InputPlan
from restyle.pipeline.sources import catalog
from restyle.pipeline.sources.options import InputOptions
from tests.pipeline.sources.tars import packed


class Heard(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, line: str) -> None:
        self.notes.append(line)


def listed(source: Path, out: Path, seed: int = 0, limit: int | None = None) -> Population:
    return list_population(InputPlan(str(source), str(out), InputOptions(), limit), seed, Heard())


def folder_of(source: Path, sizes: list[int]) -> Path:
    source.mkdir()
    for index, size in enumerate(sizes):
        (source / f"{index:04d}.jpg").write_bytes(bytes(size))
    return source


def shards(source: Path, members: list[int]) -> Path:
    source.mkdir()
    for index, count in enumerate(members):
        names = [(f"{index}-{member}.jpg", b"x" * (index + 1)) for member in range(count)]
        (source / f"{index:03d}.tar").write_bytes(packed(names))
    return source


def test_a_sample_has_every_class_of_size_and_follows_from_its_seed(tmp_path: Path) -> None:
    sizes = [index + 1 for index in range(600)]
    found = listed(folder_of(tmp_path / "in", sizes), tmp_path / "out")
    assert (found.inputs, found.spread) == (600, 0.0)
    assert found.known_bytes == sum(sizes)
    drawn = found.draw(30, seed=7)
    assert sorted((image.size - 1) // 20 for image in drawn) == list(range(30))
    assert [image.image_id for image in found.draw(30, 7)] == [image.image_id for image in drawn]
    other = {image.image_id for image in found.draw(30, 8)}
    assert len(other - {image.image_id for image in drawn}) > 15
    # In random order: units of the sample are alike.
    assert [image.size for image in drawn] != sorted(image.size for image in drawn)


@pytest.mark.parametrize("count", [5, 6, 100])
def test_all_inputs_are_drawn_where_there_are_no_more(tmp_path: Path, count: int) -> None:
    found = listed(folder_of(tmp_path / "in", [4, 4, 4, 9, 1]), tmp_path / "out")
    assert sorted(image.size for image in found.draw(count, 0)) == [1, 4, 4, 4, 9]


def test_inputs_of_one_size_are_drawn_without_regard_to_their_order(tmp_path: Path) -> None:
    found = listed(folder_of(tmp_path / "in", [3] * 200), tmp_path / "out")
    seen = {image.source for seed in range(40) for image in found.draw(20, seed)}
    assert len(seen) > 190


def test_a_few_of_many_shards_are_opened_and_stand_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shards(tmp_path / "in", [3] * 40)
    (source / "single.jpg").write_bytes(b"y" * 1000)
    opened: list[bytes] = []
    real = catalog.Containers._read

    def counted(self, file, *rest):  # type: ignore[no-untyped-def]
        opened.append(file.uri)
        return real(self, file, *rest)

    monkeypatch.setattr(catalog.Containers, "_read", counted)
    found = listed(source, tmp_path / "out")
    assert len(set(opened)) == module.MOST_SHARDS == found.shards.opened
    assert (found.inputs, found.shards.found, found.spread) == (121, 40, 0.0)
    # Each input is as likely to be drawn: members weigh as much as the shards that they stand for.
    singles = sum("single" in image.source for seed in range(100) for image in found.draw(11, seed))
    assert singles < 30
    # Another seed opens others.
    first, opened[:] = set(opened), []
    listed(source, tmp_path / "out2", seed=1)
    assert set(opened) != first


def test_unequal_shards_make_the_number_of_inputs_uncertain(tmp_path: Path) -> None:
    counts = [1 + 4 * (index % 3) for index in range(60)]
    found = listed(shards(tmp_path / "in", counts), tmp_path / "out")
    error = abs(found.inputs - sum(counts)) / sum(counts)
    # Of one that is drawn from 60: the deviation of the counts over the root of 16, less what the
    # opened ones are of all.
    expected = np.std(counts, ddof=1) / np.mean(counts) / 4 * math.sqrt(1 - 16 / 60)
    assert found.spread == pytest.approx(expected, rel=0.35)
    assert error < 3 * found.spread


@pytest.mark.parametrize("limit", [1, 7, 40])
def test_a_limit_takes_the_first_inputs_and_no_guess(tmp_path: Path, limit: int) -> None:
    found = listed(shards(tmp_path / "in", [3] * 20), tmp_path / "out", limit=limit)
    assert (found.inputs, found.spread) == (limit, 0.0)
    drawn = found.draw(1000, 0)
    names = sorted(image.source.rpartition("::")[2] for image in drawn)
    every = sorted(f"{shard}-{member}.jpg" for shard in range(20) for member in range(3))
    first = sorted(every, key=lambda name: (int(name.split("-")[0]), name))[:limit]
    assert names == sorted(first)


def test_only_pending_inputs_count(inverted: Path) -> None:
    with pytest.raises(SpecError, match="no pending input"):
        population_of(Output.at(str(inverted / "out")))
