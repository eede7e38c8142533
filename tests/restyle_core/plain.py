"""ReStyle once more, written from the papers' formulas and slow on purpose.

Nothing here is shared with the project: functions over a raw state dict, modulated weights per
sample with grouped convolutions, filters by inserting zeros, batch norm spelled out, float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def sub(state: State, prefix: str) -> State:
    """The entries below a prefix, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in state.items() if k.startswith(prefix + ".")}


# --- generator ---------------------------------------------------------------------------------


def zero_insert(x: Tensor) -> Tensor:
    """Put a zero behind every pixel, in both directions."""
    batch, channels, height, width = x.shape
    y = x.new_zeros(batch, channels, 2 * height, 2 * width)
    y[:, :, ::2, ::2] = x
    return y


def filter_image(x: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
    """True convolution of every channel with one kernel, after zero padding."""
    x = F.pad(x, (before, after, before, after))
    height, width = (side - size + 1 for side, size in zip(x.shape[2:], kernel.shape, strict=True))
    y = x.new_zeros(*x.shape[:2], height, width)
    for i, row in enumerate(kernel.flip(0, 1).tolist()):
        for j, weight in enumerate(row):
            y = y.add(x[:, :, i : i + height, j : j + width], alpha=weight)
    return y


def smoothing() -> Tensor:
    """[1, 3, 3, 1] in two dimensions with sum 4, the gain that makes up for inserted zeros."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return 4 * torch.outer(taps, taps)


def modulated(
    x: Tensor, w: Tensor, state: State, *, demodulate: bool = True, up: bool = False
) -> Tensor:
    weight = state["weight"][0]
    out, into, k, _ = weight.shape
    matrix, bias = state["modulation.weight"], state["modulation.bias"]
    style = w @ (matrix / math.sqrt(matrix.shape[1])).T + bias
    per_sample = weight[None] / math.sqrt(into * k * k) * style[:, None, :, None, None]
    if demodulate:
        norm = (per_sample.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        per_sample = per_sample / norm
    batch, _, height, width = x.shape
    if up:
        # A transposed convolution with stride two is a full convolution of the zero-inserted map.
        x = zero_insert(x)[:, :, :-1, :-1]
        kernels = per_sample.flip(3, 4)
        height, width, pad = 2 * height - 1, 2 * width - 1, k - 1
    else:
        kernels, pad = per_sample, k // 2
    y = F.conv2d(
        x.reshape(1, batch * into, height, width),
        kernels.reshape(batch * out, into, k, k),
        padding=pad,
        groups=batch,
    )
    y = y.view(batch, out, y.shape[2], y.shape[3])
    return filter_image(y, smoothing(), 1, 1) if up else y


def styled(x: Tensor, w: Tensor, state: State, noise: Tensor, up: bool) -> Tensor:
    y = modulated(x, w, sub(state, "conv"), up=up)
    y = y + state["noise.weight"] * noise + state["activate.bias"].view(1, -1, 1, 1)
    return torch.where(y > 0, y, 0.2 * y) * 2**0.5


def colour(x: Tensor, w: Tensor, state: State, skip: Tensor | None) -> Tensor:
    y = modulated(x, w, sub(state, "conv"), demodulate=False) + state["bias"]
    if skip is None:
        return y
    return y + filter_image(zero_insert(skip), smoothing(), 2, 1)


def synthesis(state: State, w: Tensor) -> Tensor:
    """w [B, n, style_dim] -> image [B, 3, size, size]."""
    x = state["input.input"].repeat(len(w), 1, 1, 1)
    x = styled(x, w[:, 0], sub(state, "conv1"), state["noises.noise_0"], up=False)
    rgb = colour(x, w[:, 1], sub(state, "to_rgb1"), None)
    for i in range((w.shape[1] - 2) // 2):
        first, second = sub(state, f"convs.{2 * i}"), sub(state, f"convs.{2 * i + 1}")
        x = styled(x, w[:, 2 * i + 1], first, state[f"noises.noise_{2 * i + 1}"], up=True)
        x = styled(x, w[:, 2 * i + 2], second, state[f"noises.noise_{2 * i + 2}"], up=False)
        rgb = colour(x, w[:, 2 * i + 3], sub(state, f"to_rgbs.{i}"), rgb)
    return rgb


def mapping(state: State, z: Tensor) -> Tensor:
    """z [B, z_dim] -> w [B, style_dim]."""
    x = z / (z.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()
    layer = 1
    while f"style.{layer}.weight" in state:
        weight, bias = state[f"style.{layer}.weight"], state[f"style.{layer}.bias"]
        x = x @ (weight * 0.01 / math.sqrt(weight.shape[1])).T + bias * 0.01
        x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
        layer += 1
    return x


# --- encoders ----------------------------------------------------------------------------------


def batch_norm(x: Tensor, state: State) -> Tensor:
    mean, var = state["running_mean"].view(1, -1, 1, 1), state["running_var"].view(1, -1, 1, 1)
    weight, bias = state["weight"].view(1, -1, 1, 1), state["bias"].view(1, -1, 1, 1)
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * slope.view(1, -1, 1, 1))


def ir_se_unit(x: Tensor, state: State, stride: int) -> Tensor:
    if "shortcut_layer.0.weight" in state:
        shortcut = F.conv2d(x, state["shortcut_layer.0.weight"], stride=stride)
        shortcut = batch_norm(shortcut, sub(state, "shortcut_layer.1"))
    else:
        shortcut = x[:, :, ::stride, ::stride]
    y = batch_norm(x, sub(state, "res_layer.0"))
    y = F.conv2d(y, state["res_layer.1.weight"], padding=1)
    y = prelu(y, state["res_layer.2.weight"])
    y = F.conv2d(y, state["res_layer.3.weight"], padding=1, stride=stride)
    y = batch_norm(y, sub(state, "res_layer.4"))
    squeezed = y.mean((2, 3))
    squeezed = (squeezed @ state["res_layer.5.fc1.weight"][:, :, 0, 0].T).clamp(min=0)
    excited = (squeezed @ state["res_layer.5.fc2.weight"][:, :, 0, 0].T).sigmoid()
    return y * excited[:, :, None, None] + shortcut


def resnet_block(x: Tensor, state: State, stride: int) -> Tensor:
    y = F.conv2d(x, state["conv1.weight"], padding=1, stride=stride)
    y = batch_norm(y, sub(state, "bn1")).clamp(min=0)
    y = batch_norm(F.conv2d(y, state["conv2.weight"], padding=1), sub(state, "bn2"))
    if "downsample.0.weight" in state:
        x = F.conv2d(x, state["downsample.0.weight"], stride=stride)
        x = batch_norm(x, sub(state, "downsample.1"))
    return (y + x).clamp(min=0)


def backbone(state: State, x: Tensor, depths: tuple[int, ...]) -> list[Tensor]:
    """Maps after each stage."""
    resnet = "conv1.weight" in state
    if resnet:
        x = batch_norm(F.conv2d(x, state["conv1.weight"], padding=3, stride=2), sub(state, "bn1"))
        x = prelu(x, state["relu.weight"])
    else:
        x = batch_norm(
            F.conv2d(x, state["input_layer.0.weight"], padding=1), sub(state, "input_layer.1")
        )
        x = prelu(x, state["input_layer.2.weight"])
    maps, unit = [], 0
    for stage, depth in enumerate(depths):
        for position in range(depth):
            stride = 2 if position == 0 and not (resnet and stage == 0) else 1
            step = resnet_block if resnet else ir_se_unit
            x = step(x, sub(state, f"body.{unit}"), stride)
            unit += 1
        maps.append(x)
    return maps


def head(state: State, x: Tensor) -> Tensor:
    index = 0
    while f"convs.{index}.weight" in state:
        x = F.conv2d(x, state[f"convs.{index}.weight"], state[f"convs.{index}.bias"], 2, 1)
        x = torch.where(x > 0, x, 0.01 * x)
        index += 2
    matrix = state["linear.weight"]
    return x.flatten(1) @ (matrix / math.sqrt(matrix.shape[1])).T + state["linear.bias"]


def pooled(x: Tensor, side: int) -> Tensor:
    """Means over the windows of adaptive pooling, [B, C, side, side]."""
    rows, columns = (
        [(i * size // side, -(-(i + 1) * size // side)) for i in range(side)]
        for size in x.shape[2:]
    )
    means = [x[:, :, a:b, c:d].mean((2, 3)) for a, b in rows for c, d in columns]
    return torch.stack(means, 2).unflatten(2, (side, side))


def into_w_plus(state: State, x: Tensor) -> Tensor:
    x = pooled(batch_norm(x, sub(state, "output_layer_2.0")), 7).flatten(1)
    x = x @ state["output_layer_2.3.weight"].T + state["output_layer_2.3.bias"]
    matrix = state["linear.weight"]
    rows = x @ (matrix / math.sqrt(matrix.shape[1])).T + state["linear.bias"]
    return rows.unflatten(1, (-1, x.shape[1]))


def into_w(state: State, x: Tensor) -> Tensor:
    matrix = state["linear.weight"]
    row = x.mean((2, 3)) @ (matrix / math.sqrt(matrix.shape[1])).T + state["linear.bias"]
    return row[:, None]


def encode(state: State, x: Tensor, kind: str, depths: tuple[int, ...]) -> Tensor:
    """[B, C, h, w] -> [B, n, style_dim]; n is 1 for an encoder into W."""
    _, fine, middle, coarse = backbone(state, x, depths)
    if "linear.weight" in state:
        return into_w_plus(state, coarse) if kind.endswith("Plus") else into_w(state, coarse)
    pyramid = "latlayer1.weight" in state
    if pyramid:

        def enlarge(small: Tensor, like: Tensor) -> Tensor:
            return F.interpolate(small, like.shape[2:], mode="bilinear", align_corners=True)

        middle = F.conv2d(middle, state["latlayer1.weight"], state["latlayer1.bias"])
        fine = F.conv2d(fine, state["latlayer2.weight"], state["latlayer2.bias"])
        middle = enlarge(coarse, middle) + middle
        fine = enlarge(middle, fine) + fine
    rows: list[Tensor] = []
    n_styles = max(int(key.split(".")[1]) for key in state if key.startswith("styles.")) + 1
    for style in range(n_styles):
        source = coarse
        if pyramid and style >= 3:
            source = middle if style <= 6 else fine
        row = head(sub(state, f"styles.{style}"), source)
        if style > 0 and ("Progressive" in kind or kind == "Encoder4Editing"):
            row = rows[0] + row
        rows.append(row)
    return torch.stack(rows, 1)


# --- loop --------------------------------------------------------------------------------------


@torch.no_grad()
def refine(
    encoder: State,
    decoder: State,
    latent_avg: Tensor,
    x: Tensor,
    steps: int,
    *,
    kind: str,
    depths: tuple[int, ...],
    rows: slice = slice(None),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Latents and pooled image of each step; x [B, 3, h, w] in [-1, 1]."""
    size = (x.shape[2], x.shape[3])
    w = latent_avg[None].repeat(len(x), 1, 1)
    y = F.adaptive_avg_pool2d(synthesis(decoder, w)[:, :, rows], size)
    for _ in range(steps):
        w = w + encode(encoder, torch.cat((x, y), 1), kind, depths)
        y = F.adaptive_avg_pool2d(synthesis(decoder, w)[:, :, rows], size)
        yield w, y
