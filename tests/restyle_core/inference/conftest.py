"""A small model in the published layout, shared by the tests that follow gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from restyle.core.inference.model import Model, load_model
from tests.restyle_core.fabricate import checkpoint, save
from tests.restyle_core.inference.test_inversion import small_input


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return checkpoint("BackboneEncoder", 32)


@pytest.fixture(scope="module")
def model(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = save(content, tmp_path_factory.mktemp("model") / "published.pt")
    return small_input(load_model(path, dtype="fp32", device="cpu"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Operators this small take longer with several, the more so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
