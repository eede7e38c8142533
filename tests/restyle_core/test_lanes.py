from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restyle_core import invert, load_model
from restyle_core.errors import SpecError
from restyle_core.inversion import Inversion
from restyle_core.lanes import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@given(count=st.integers(1, 40), threads=st.integers(1, 8))
def test_every_image_is_in_one_part_and_every_thread_at_work(count: int, threads: int) -> None:
    torch.set_num_threads(threads)
    parts = side_by_side(lambda rows: (rows, torch.get_num_threads()), count, CPU)
    images = list(range(count))
    assert [image for rows, _ in parts for image in images[rows]] == images
    assert len({len(images[rows]) for rows, _ in parts}) == 1
    assert sum(share for _, share in parts) == threads


def test_parts_are_computed_at_the_same_time() -> None:
    torch.set_num_threads(4)
    met = threading.Barrier(4, timeout=30)
    assert len(side_by_side(lambda _: met.wait(), 8, CPU)) == 4


def test_a_gpu_is_given_all_images_at_once() -> None:
    torch.set_num_threads(4)
    assert side_by_side(lambda rows: rows, 8, torch.device("cuda")) == [slice(0, 8)]


def test_threads_are_as_many_as_before_also_for_new_ones() -> None:
    torch.set_num_threads(4)
    side_by_side(lambda rows: rows, 4, CPU)
    with ThreadPoolExecutor(1) as pool:
        assert (torch.get_num_threads(), pool.submit(torch.get_num_threads).result()) == (4, 4)


def test_an_error_ends_it_once_no_part_is_being_computed() -> None:
    torch.set_num_threads(2)
    met = threading.Barrier(2, timeout=30)
    raised, done = threading.Event(), []

    def work(rows: slice) -> None:
        met.wait()
        if rows.start == 0:
            raised.set()
            raise SpecError("the first part")
        assert raised.wait(30)
        done.append(rows)

    with pytest.raises(SpecError, match="the first part"):
        side_by_side(work, 2, CPU)
    assert (done, torch.get_num_threads()) == ([slice(1, 2)], 2)


@pytest.mark.parametrize("tolerance", [0.0, 0.03])
def test_images_are_inverted_as_in_one_piece(tolerance: float) -> None:
    model = load_model("faces64", dtype="fp32", device="cpu")
    # Some that are found at once beside some that are not.
    steps = torch.linspace(0, 1, 8)[:, None, None, None]
    x = model.average_image.clamp(-1, 1) * (1 - steps) + steps * torch.rand(8, 3, 64, 64)

    def inverted(threads: int) -> Inversion:
        torch.set_num_threads(threads)
        return invert(
            model, x, 4, reconstructions="all", metrics=("l2",), deltas=True, tolerance=tolerance
        )

    one, four = inverted(1), inverted(4)
    assert (len(set(one.steps.tolist())) > 1) == (tolerance > 0)
    torch.testing.assert_close(four.steps, one.steps)
    torch.testing.assert_close(four.latents, one.latents, rtol=0, atol=1e-4)
    torch.testing.assert_close(four.reconstructions, one.reconstructions, rtol=0, atol=1e-4)
    torch.testing.assert_close(four.metrics, one.metrics, rtol=0, atol=1e-4)
    torch.testing.assert_close(four.deltas, one.deltas, rtol=0, atol=1e-4)
    # And from where they came to.
    torch.set_num_threads(4)
    again = invert(model, x, 1, start=one)
    torch.set_num_threads(1)
    torch.testing.assert_close(again.latents, invert(model, x, 1, start=one).latents)
