"""How near the kernels of inference come to a copy's rate: ``python -m tests.gpu.rates``.

Every layer of faces 1024 in bfloat16, 16 images: bytes that it reads and writes, the time that it
takes replayed, and its share of the rate of a large copy. Writes ``rates.json`` into ``$OUT``, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch

from restyle.core.bench.on_gpu import copy_rate, replayed
from restyle.core.bench.timing import Clock, timed
from restyle.core.networks.generator import GeneratorConfig
from restyle.kernels.layers import Epilogue, RGBProjection, blur_layer, to_rgb_layer

BATCH, REPEATS, TIMES = 16, 7, 10
DEVICE = torch.device("cuda")


def layers() -> list[tuple[str, int, int, int, Callable[[], None]]]:
    """Kernel, side, channels, bytes and a call of each."""
    found = []
    widths = GeneratorConfig.published(1024).widths
    for level, channels in enumerate(widths):
        side, last = 4 << level, level == len(widths) - 1
        values, noise = BATCH * side * side * channels * 2, side * side * 4
        image, skip = BATCH * 3 * side * side * 4, BATCH * 3 * side * side
        if level:
            tall = BATCH * (side + 5) * (side + 1) * channels * 2
            found.append(
                ("blur_layer", side, channels, tall + values + noise, _blur(side, channels))
            )
        total = values * (1 if last else 2) + image + (skip if level else 0) + noise
        found.append(("to_rgb_layer", side, channels, total, _colour(side, channels, level, last)))
    return found


def _epilogue(side: int, channels: int) -> Epilogue:
    def vector(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=DEVICE)

    return Epilogue(
        vector(BATCH, channels), vector(1, 1, side, side), vector(1), vector(channels),
        vector(BATCH, channels),
    )  # fmt: skip


def _activations(channels: int, rows: int, columns: int) -> torch.Tensor:
    shape = (BATCH, channels, rows, columns)
    made = torch.randn(shape, device=DEVICE, dtype=torch.bfloat16)
    return made.contiguous(memory_format=torch.channels_last)


def _blur(side: int, channels: int) -> Callable[[], None]:
    x, y = _activations(channels, side + 5, side + 1), _activations(channels, side + 2, side)
    after, taps = _epilogue(side, channels), torch.rand(4, device=DEVICE)
    return lambda: blur_layer(x, y[:, :, 1:-1], 0, after, (taps, taps))


def _colour(side: int, channels: int, level: int, last: bool) -> Callable[[], None]:
    x, z = _activations(channels, side, side), _activations(channels, side + 2, side)
    y = None if last else z[:, :, 1:-1]
    after, taps = _epilogue(side, channels), torch.rand(4, device=DEVICE)
    image = torch.empty(BATCH, 3, side, side, device=DEVICE)
    skip = torch.rand(BATCH, 3, side // 2, side // 2, device=DEVICE) if level else None
    weight = torch.rand(BATCH, 3, channels, device=DEVICE)
    colour = RGBProjection(weight, torch.rand(3, device=DEVICE), taps, taps, skip)
    return lambda: to_rgb_layer(x, y, image, 0, after, colour)


def main() -> None:
    """Measure, print, write."""
    clock = Clock(DEVICE)
    copied = copy_rate(DEVICE, REPEATS, clock)
    print(f"{torch.cuda.get_device_name()}: a copy reads and writes {copied / 1e12:.2f} TB/s")
    sums: dict[str, list[float]] = {}
    rows = []
    for kernel, side, channels, moved, call in layers():
        seconds = timed(replayed(call, TIMES), REPEATS, clock).median / TIMES
        rows.append([kernel, side, channels, moved, seconds, moved / seconds / copied])
        total = sums.setdefault(kernel, [0.0, 0.0])
        total[0] += moved
        total[1] += seconds
        print(
            f"{kernel:13s} {side:5d} {channels:4d} {moved / 1e6:9.1f} MB {seconds * 1e3:7.3f} ms "
            f"{moved / seconds / copied:5.0%}"
        )
    for kernel, (moved, seconds) in sums.items():
        rate = moved / seconds / copied
        print(f"{kernel}: {seconds * 1e3:.2f} ms, {rate:.0%} of a copy's rate (60% is wanted)")
    out = Path(os.environ.get("OUT", "."))
    (out / "rates.json").write_text(json.dumps({"copy": copied, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
