from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restyle.core import load_model
from restyle.core.devices.threads import in_groups, in_parallel, parallel_parts
from restyle.core.errors import SpecError
from restyle.core.inference import inversion
from restyle.core.inference.results import Inversion


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@given(count=st.integers(1, 40), threads=st.integers(1, 8))
def test_every_image_is_in_one_part_and_every_thread_at_work(count: int, threads: int) -> None:
    torch.set_num_threads(threads)
    parts = in_parallel(
        lambda rows: (rows, torch.get_num_threads()), count, parallel_parts(count, side=1024)
    )
    images = list(range(count))
    assert [image for rows, _ in parts for image in images[rows]] == images
    assert len({len(images[rows]) for rows, _ in parts}) == 1
    assert sum(share for _, share in parts) == threads
    assert len(parts) == max(n for n in range(1, 9) if count % n == 0 and threads % n == 0)


@pytest.mark.parametrize(("side", "threads", "each"), [(64, 3, 1), (64, 1, 1), (256, 3, 3)])
def test_a_group_has_one_thread_or_for_large_images_all(side: int, threads: int, each: int) -> None:
    torch.set_num_threads(threads)
    groups = in_groups(lambda rows: (rows, torch.get_num_threads()), 7, 3, side)
    assert groups == [(slice(0, 3), each), (slice(3, 6), each), (slice(6, 7), each)]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == threads


def test_groups_are_computed_at_the_same_time() -> None:
    torch.set_num_threads(3)
    met = threading.Barrier(3, timeout=30)
    assert len(in_groups(lambda _: met.wait(), 12, 4, 64)) == 3


def test_parts_are_computed_at_the_same_time() -> None:
    torch.set_num_threads(4)
    met = threading.Barrier(4, timeout=30)
    assert len(in_parallel(lambda _: met.wait(), 8, 4)) == 4


def test_small_images_stay_together() -> None:
    torch.set_num_threads(4)
    assert (parallel_parts(8, 64), parallel_parts(8, 256)) == (1, 4)


def test_threads_are_as_many_as_before_also_for_new_ones() -> None:
    torch.set_num_threads(4)
    in_parallel(lambda rows: rows, 4, 4)
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
        in_parallel(work, 2, 2)
    assert (done, torch.get_num_threads()) == ([slice(1, 2)], 2)


@pytest.mark.parametrize("tolerance", [0.0, 0.03])
def test_images_are_inverted_as_in_one_piece(
    tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model("faces64", dtype="fp32", device="cpu")
    torch.manual_seed(0)
    # Some that are found at once beside some that are not.
    steps = torch.linspace(0, 1, 8)[:, None, None, None]
    x = model.average_image.clamp(-1, 1) * (1 - steps) + steps * torch.rand(8, 3, 64, 64)

    def inverted(parts: int, start: Inversion | None = None) -> Inversion:
        monkeypatch.setattr(inversion, "parallel_parts", lambda *_: parts)
        keep = {"reconstructions": "all", "metrics": ("l2",), "deltas": True}
        return inversion.invert(model, x, 4, start=start, tolerance=tolerance, **keep)

    torch.set_num_threads(4)
    whole, parts = inverted(1), inverted(4)
    assert (len(set(whole.steps.tolist())) > 1) == (tolerance > 0)
    assert_same(parts, whole)
    assert_same(inverted(4, start=whole), inverted(1, start=whole))


def assert_same(one: Inversion, other: Inversion) -> None:
    for field in dataclasses.fields(Inversion):
        values = getattr(one, field.name), getattr(other, field.name)
        torch.testing.assert_close(*values, rtol=0, atol=1e-4)
