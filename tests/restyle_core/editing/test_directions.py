"""Files of directions, their names and their layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from restyle.core.editing.directions import (
    About,
    Direction,
    check_name,
    parse_layers,
    read_about,
    read_direction,
    safe_name,
    show_layers,
    show_reliable,
)
from restyle.core.errors import CheckpointError, SpecError

ABOUT = About(name="smile", kind="interfacegan", scale=2.5, layers=(0, 1, 4), accuracy=0.9)


@pytest.mark.parametrize("shape", [(32,), (10, 32)])
def test_a_file_gives_back_what_was_saved(tmp_path: Path, shape: tuple[int, ...]) -> None:
    vector = np.random.default_rng(0).normal(size=shape)
    path = Direction.of(vector, ABOUT).save(tmp_path / "new folder")
    read = read_direction(path)
    assert path.name == "smile.safetensors"
    assert read.about == read_about(path) == ABOUT
    rows = vector.reshape(-1, 32)
    expected = vector / np.sqrt(np.mean([row @ row for row in rows]))
    np.testing.assert_allclose(read.vector, expected, rtol=1e-6)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "vector", [np.zeros(4), np.full(4, np.nan), np.ones((2, 3, 4)), np.ones(0)]
)
def test_what_is_no_vector_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(SpecError, match="smile"):
        Direction.of(vector, ABOUT)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    good = Direction.of(np.ones(4), ABOUT).save(tmp_path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-3])
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(good), bare)
    wild = tmp_path / "wild.safetensors"
    about = json.loads(ABOUT.model_dump_json()) | {"name": "../../smile"}
    save_file(load_file(good), wild, {"restyle.direction": json.dumps(about)})
    double = tmp_path / "double.safetensors"
    save_file({"direction": np.ones(4)}, double, {"restyle.direction": ABOUT.model_dump_json()})
    infinite = tmp_path / "infinite.safetensors"
    save_file(
        {"direction": np.full(4, np.inf, np.float32)},
        infinite,
        {"restyle.direction": ABOUT.model_dump_json()},
    )
    deep = tmp_path / "deep.safetensors"
    save_file(load_file(good), deep, {"restyle.direction": "[" * 100_000})
    nested = tmp_path / "nested.safetensors"
    text = ABOUT.model_dump_json()[:-1] + ',"more":' + '{"a":' * 100_000
    save_file(load_file(good), nested, {"restyle.direction": text})
    split = tmp_path / "split.safetensors"
    save_file(load_file(good), split, {"restyle.direction": ABOUT.model_dump_json() + "\n{}"})
    damaged = (cut, bare, wild, double, infinite, deep, nested, split)
    for path in (*damaged, tmp_path / "none.safetensors"):
        with pytest.raises(CheckpointError, match=path.name) as caught:
            read_direction(path)
        assert "\n" not in str(caught.value)


def test_strengths_beyond_the_reliable_range_are_named(tmp_path: Path) -> None:
    plain = Direction.of(np.ones(4), ABOUT)
    assert plain.beyond_reliable([-100, 100]) == ""
    ranged = read_direction(plain.described(reliable=(-3, 2)).save(tmp_path))
    assert ranged.about.reliable == (-3, 2)
    assert ranged.beyond_reliable([-3, 0, 2]) == ""
    said = "smile is reliable from -3 to 2: faces may smear or change in other ways at "
    assert ranged.beyond_reliable([0, 2.5]) == f"{said}strength 2.5"
    assert ranged.beyond_reliable([-4, -3, 3]) == f"{said}strengths -4 and 3"
    assert ranged.beyond_reliable([-4, 1, 3, 5]) == f"{said}strengths -4, 3 and 5"
    many = ranged.beyond_reliable(np.linspace(-10, 10, 201).tolist())
    assert many == f"{said}150 strengths, such as -10 and 10"
    assert [show_reliable(each.about.reliable) for each in (plain, ranged)] == ["-", "-3..2"]


@pytest.mark.parametrize("reliable", [(0, 2), (-1, 0), (1, 2), (-np.inf, 2), (-2, np.nan)])
def test_a_reliable_range_has_finite_ends_about_zero(reliable: tuple[float, float]) -> None:
    with pytest.raises(SpecError, match="reliable"):
        Direction.of(np.ones(4), ABOUT).described(reliable=reliable)


@pytest.mark.parametrize(
    ("text", "layers"), [("3", (3,)), ("0-3", (0, 1, 2, 3)), ("8-9, 0 - 1,0", (0, 1, 8, 9))]
)
def test_layers_include_both_ends(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "3-1", "a", "1-", "-1", "0-64", "1.5", "٣"])
def test_other_layers_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="layers"):
        parse_layers(text)


def test_layers_are_shown_as_they_are_written() -> None:
    assert show_layers(None) == "all"
    assert show_layers((0, 1, 2, 5, 8, 9)) == "0-2,5,8-9"


@pytest.mark.parametrize("text", ["../../etc", "a/b", ".hidden", "ä ö", "", "x" * 300, "<script>"])
def test_names_from_elsewhere_become_harmless(text: str) -> None:
    assert check_name(safe_name(text)) == safe_name(text)
    with pytest.raises(SpecError, match="cannot name a direction"):
        check_name(text)
