"""NVIDIA's programs in small: what they pickle, and how they make images.

Written from the papers and the published layout of the files, without the project's networks. The
classes are pickled as the programs pickle theirs: names of modules that are not installed here,
and the source of the classes inside, which would write a file if it ran.
"""

from __future__ import annotations

import copyreg
import io
import math
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# --- stylegan2-ada-pytorch ---------------------------------------------------------------------


class EasyDict(dict):
    """A dictionary of the module dnnlib.util."""


EasyDict.__module__ = "dnnlib.util"


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> object:
    raise AssertionError("a stand-in for the program's function was called")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"

SOURCE = "import pathlib\npathlib.Path({!r}).write_text('ran')\n"
"""Source in the pickles; it would prove that it ran."""


class Persistent(nn.Module):
    """A module that is pickled as torch_utils.persistence does it."""

    trap = ""

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE.format(Persistent.trap),
            "class_name": type(self).__name__,
            "state": dict(self.__dict__),
        }
        return _reconstruct_persistent_obj, (meta,)


def resampling() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / taps.sum() ** 2


class FullyConnectedLayer(Persistent):
    def __init__(
        self, into: int, out: int, *, act: str = "linear", lr: float = 1.0, start: float = 0.0
    ) -> None:
        super().__init__()
        self.activation = act
        self.weight = nn.Parameter(torch.randn(out, into) / lr)
        self.bias = nn.Parameter(start + 0.3 * torch.randn(out) / lr)
        self.weight_gain = lr / np.sqrt(into)
        self.bias_gain = lr

    def forward(self, x: Tensor) -> Tensor:
        y = x @ (self.weight * self.weight_gain).T + self.bias * self.bias_gain
        if self.activation == "lrelu":
            y = torch.where(y > 0, y, y * 0.2) * math.sqrt(2)
        return y


class MappingNetwork(Persistent):
    def __init__(self, z: int, c: int, w: int, num_ws: int, layers: int, lr: float) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z, c, w, num_ws
        self.num_layers = layers
        self.w_avg_beta = 0.995
        if c:
            self.embed = FullyConnectedLayer(c, w)
        for index in range(layers):
            into = (z + (w if c else 0)) if index == 0 else w
            setattr(self, f"fc{index}", FullyConnectedLayer(into, w, act="lrelu", lr=lr))
        self.register_buffer("w_avg", 0.1 * torch.randn(w))

    def forward(self, z: Tensor) -> Tensor:
        x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        return x[:, None].repeat(1, self.num_ws, 1)


def upsampled(x: Tensor) -> Tensor:
    """Zeros between the pixels, then the filter with gain 4; twice the size."""
    batch, channels, side, _ = x.shape
    y = x.new_zeros(batch, channels, 2 * side, 2 * side)
    y[:, :, ::2, ::2] = x
    return filtered(F.pad(y, (2, 1, 2, 1)), 4)


def filtered(x: Tensor, gain: float) -> Tensor:
    kernel = resampling()[None, None] * gain
    return F.conv2d(x.flatten(0, 1)[:, None], kernel).unflatten(0, x.shape[:2])[:, :, 0]


class SynthesisLayer(Persistent):
    def __init__(
        self, into: int, out: int, w: int, side: int, *, up: int = 1, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.use_noise = side, up, True
        self.activation, self.conv_clamp, self.padding = "lrelu", clamp, 1
        self.act_gain = np.sqrt(2)
        self.register_buffer("resample_filter", resampling())
        self.affine = FullyConnectedLayer(w, into, start=1.0)
        self.weight = nn.Parameter(torch.randn(out, into, 3, 3))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.noise_strength = nn.Parameter(0.3 * torch.randn([]))
        self.bias = nn.Parameter(0.3 * torch.randn(out))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w)
        images = []
        for image, style in zip(x, styles, strict=True):
            weight = self.weight * style[None, :, None, None]
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if self.up == 1:
                images.append(F.conv2d(image[None], weight, padding=1))
            else:
                wide = F.conv_transpose2d(image[None], weight.transpose(0, 1), stride=2)
                images.append(filtered(F.pad(wide, (1, 1, 1, 1)), 4))
        y = torch.cat(images) + self.noise_const * self.noise_strength
        y = y + self.bias[:, None, None]
        y = torch.where(y > 0, y, y * 0.2) * math.sqrt(2)
        return y if self.conv_clamp is None else y.clamp(-self.conv_clamp, self.conv_clamp)


class ToRGBLayer(Persistent):
    def __init__(self, into: int, w: int, clamp: float | None) -> None:
        super().__init__()
        self.conv_clamp = clamp
        self.affine = FullyConnectedLayer(w, into, start=1.0)
        self.weight = nn.Parameter(torch.randn(3, into, 1, 1))
        self.bias = nn.Parameter(0.3 * torch.randn(3))
        self.weight_gain = 1 / np.sqrt(into)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.weight_gain
        y = torch.einsum("bihw,oi,bi->bohw", x, self.weight[:, :, 0, 0], styles)
        return y + self.bias[:, None, None]


class SynthesisBlock(Persistent):
    def __init__(self, into: int, out: int, w: int, side: int, clamp: float | None) -> None:
        super().__init__()
        self.in_channels, self.w_dim, self.resolution = into, w, side
        self.img_channels, self.architecture = 3, "skip"
        self.register_buffer("resample_filter", resampling())
        if into:
            self.conv0 = SynthesisLayer(into, out, w, side, up=2, clamp=clamp)
        else:
            self.const = nn.Parameter(torch.randn(out, 4, 4))
        self.conv1 = SynthesisLayer(out, out, w, side, clamp=clamp)
        self.torgb = ToRGBLayer(out, w, clamp)

    def forward(self, x: Tensor, image: Tensor | None, ws: list[Tensor]) -> tuple[Tensor, Tensor]:
        if self.in_channels:
            x = self.conv0(x, ws[0])
            ws = ws[1:]
        else:
            x = self.const.repeat(len(ws[0]), 1, 1, 1)
        x = self.conv1(x, ws[0])
        rgb = self.torgb(x, ws[1])
        return x, rgb if image is None else upsampled(image) + rgb


class SynthesisNetwork(Persistent):
    def __init__(self, w: int, widths: tuple[int, ...], clamp: float | None) -> None:
        super().__init__()
        self.w_dim, self.img_channels = w, 3
        self.img_resolution = 2 ** (len(widths) + 1)
        self.block_resolutions = [4 << index for index in range(len(widths))]
        self.num_ws = 2 * len(widths)
        before = 0
        for side, width in zip(self.block_resolutions, widths, strict=True):
            setattr(self, f"b{side}", SynthesisBlock(before, width, w, side, clamp))
            before = width

    def forward(self, ws: Tensor) -> Tensor:
        x = image = None
        for index, side in enumerate(self.block_resolutions):
            first = max(0, 2 * index - 1)
            mine = list(ws[:, first : 2 * index + 2].unbind(1))
            x, image = getattr(self, f"b{side}")(x, image, mine)
        return image


class Generator(Persistent):
    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        w: int = 32,
        z: int = 32,
        c: int = 0,
        layers: int = 8,
        lr: float = 0.01,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z, c, w
        self.img_resolution, self.img_channels = 2 ** (len(widths) + 1), 3
        self.num_ws = 2 * len(widths)
        self.synthesis = SynthesisNetwork(w, widths, clamp)
        self.mapping = MappingNetwork(z, c, w, self.num_ws, layers, lr)
        self._init_args = ()
        self._init_kwargs = {"mapping_kwargs": EasyDict(num_layers=layers), "z_dim": z}

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z))


class Discriminator(Persistent):
    def __init__(self) -> None:
        super().__init__()
        self.b4 = FullyConnectedLayer(8, 1)


def ada_content(generator: nn.Module) -> dict[str, Any]:
    """What the program dumps."""
    other = Generator((4, 4))
    return {
        "training_set_kwargs": EasyDict(class_name="training.dataset.Some", xflip=True),
        "G": other,
        "D": Discriminator(),
        "G_ema": generator,
        "augment_pipe": None,
    }


# --- stylegan2 in TensorFlow -------------------------------------------------------------------


class Network:
    """A network as dnnlib.tflib.network.Network pickles itself, which also makes images."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce_ex__(self, protocol: int) -> Any:
        # As by pickle itself, for a class of another module.
        if protocol < 2:
            return copyreg._reconstructor, (Network, object, None), self.state
        return copyreg.__newobj__, (Network,), self.state


Network.__module__ = "dnnlib.tflib.network"

Arrays = dict[str, np.ndarray[Any, Any]]


def tf_generator(
    widths: tuple[int, ...],
    *,
    w: int = 32,
    layers: int = 8,
    labels: int = 0,
    seed: int = 0,
    **options: Any,
) -> Network:
    """A generator with random weights of the published names and shapes."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray[Any, Any]:
        return (draw.standard_normal(shape) * scale).astype(np.float32)

    mapping: Arrays = {}
    lr = options.get("mapping_lrmul", 0.01)
    for index in range(layers):
        mapping[f"Dense{index}/weight"] = normal(w, w, scale=1 / lr)
        mapping[f"Dense{index}/bias"] = normal(w, scale=0.3 / lr)
    synthesis: Arrays = {}
    for layer in range(2 * len(widths) - 1):
        side = 4 << ((layer + 1) // 2)
        synthesis[f"noise{layer}"] = normal(1, 1, side, side)
    synthesis["4x4/Const/const"] = normal(1, widths[0], 4, 4)

    def convolution(at: str, kernel: int, into: int, out: int) -> None:
        synthesis[f"{at}/weight"] = normal(kernel, kernel, into, out)
        synthesis[f"{at}/mod_weight"] = normal(w, into)
        synthesis[f"{at}/mod_bias"] = normal(into, scale=0.3)
        synthesis[f"{at}/bias"] = normal(out, scale=0.3)
        if kernel == 3:
            synthesis[f"{at}/noise_strength"] = np.float32(draw.standard_normal() * 0.3)

    before = widths[0]
    for index, width in enumerate(widths):
        at = f"{4 << index}x{4 << index}"
        names = ["Conv0_up", "Conv1"] if index else ["Conv"]
        for name in names:
            convolution(f"{at}/{name}", 3, before, width)
            before = width
        convolution(f"{at}/ToRGB", 1, width, 3)
    parts = {
        name: Network(
            {
                "version": 4,
                "name": f"G_{name}",
                "static_kwargs": {},
                "components": {},
                "build_module_src": SOURCE.format(Persistent.trap),
                "build_func_name": f"G_{name}_stylegan2",
                "variables": [(key, np.asarray(value)) for key, value in variables.items()],
            }
        )
        for name, variables in (("mapping", mapping), ("synthesis", synthesis))
    }
    return Network(
        {
            "version": 4,
            "name": "Gs",
            "static_kwargs": {
                "num_channels": 3,
                "resolution": 2 ** (len(widths) + 1),
                "label_size": labels,
                "fmap_base": 16384,
                "mapping_layers": layers,
                "truncation_psi": None,
                **options,
            },
            "components": parts,
            "build_module_src": SOURCE.format(Persistent.trap),
            "build_func_name": "G_main",
            "variables": [("lod", np.float32(0)), ("dlatent_avg", normal(w, scale=0.1))],
        }
    )


def tf_variables(network: Network) -> Arrays:
    found = dict(network.state["variables"])
    for name, part in network.state["components"].items():
        found |= {f"{name}/{key}": value for key, value in part.state["variables"]}
    return found


def tf_mapping(network: Network, z: Tensor) -> Tensor:
    """z [B, n] -> w [B, n]."""
    found, options = tf_variables(network), network.state["static_kwargs"]
    lr = options.get("mapping_lrmul", 0.01)
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for index in range(options["mapping_layers"]):
        weight = torch.from_numpy(found[f"mapping/Dense{index}/weight"])
        bias = torch.from_numpy(found[f"mapping/Dense{index}/bias"])
        x = x @ (weight * lr / math.sqrt(len(weight))) + bias * lr
        x = torch.where(x > 0, x, x * 0.2) * math.sqrt(2)
    return x


def tf_synthesis(network: Network, ws: Tensor) -> Tensor:
    """ws [B, n_styles, n] -> images.

    Upsampling is, as in the program, a transposed convolution of TensorFlow: every pixel adds its
    multiple of the kernel, turned by 180 degrees as the program turns it.
    """
    found = {
        key.removeprefix("synthesis/"): torch.from_numpy(np.asarray(value))
        for key, value in tf_variables(network).items()
        if key.startswith("synthesis/")
    }

    def modulated(x: Tensor, at: str, w: Tensor, *, demodulate: bool, up: bool) -> Tensor:
        weight = found[f"{at}/weight"]
        k, _, into, _ = weight.shape
        style = (
            w @ (found[f"{at}/mod_weight"] / math.sqrt(w.shape[1])) + found[f"{at}/mod_bias"] + 1
        )
        each = weight[None] / math.sqrt(k * k * into) * style[:, None, None, :, None]
        if demodulate:
            each = each / (each.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        images = []
        for image, kernel in zip(x, each, strict=True):
            if not up:
                images.append(F.conv2d(image[None], kernel.permute(3, 2, 0, 1), padding=k // 2))
                continue
            side = image.shape[1]
            wide = torch.zeros(kernel.shape[3], 2 * side + 1, 2 * side + 1)
            for row in range(3):
                for column in range(3):
                    share = torch.einsum("ihw,io->ohw", image, kernel[2 - row, 2 - column])
                    wide[:, row : row + 2 * side : 2, column : column + 2 * side : 2] += share
            images.append(filtered(F.pad(wide[None], (1, 1, 1, 1)), 4))
        return torch.cat(images)

    def layer(x: Tensor, number: int, at: str, w: Tensor, up: bool) -> Tensor:
        y = modulated(x, at, w, demodulate=True, up=up)
        y = y + found[f"noise{number}"] * found[f"{at}/noise_strength"]
        y = y + found[f"{at}/bias"][:, None, None]
        return torch.where(y > 0, y, y * 0.2) * math.sqrt(2)

    x = found["4x4/Const/const"].repeat(len(ws), 1, 1, 1)
    image = None
    for index in range(ws.shape[1] // 2):
        at = f"{4 << index}x{4 << index}"
        if index:
            x = layer(x, 2 * index - 1, f"{at}/Conv0_up", ws[:, 2 * index - 1], up=True)
        x = layer(x, 2 * index, f"{at}/{'Conv1' if index else 'Conv'}", ws[:, 2 * index], up=False)
        rgb = modulated(x, f"{at}/ToRGB", ws[:, 2 * index + 1], demodulate=False, up=False)
        rgb = rgb + found[f"{at}/ToRGB/bias"][:, None, None]
        image = rgb if image is None else upsampled(image) + rgb
    return image


# --- pickling ----------------------------------------------------------------------------------


def dumped(content: object, protocol: int = 4) -> bytes:
    """Pickle with the programs' modules in place, as on their machines."""
    modules: dict[str, dict[str, Callable[..., Any]]] = {
        "dnnlib": {},
        "dnnlib.util": {"EasyDict": EasyDict},
        "dnnlib.tflib": {},
        "dnnlib.tflib.network": {"Network": Network},
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
    try:
        target = io.BytesIO()
        pickle.Pickler(target, protocol=protocol).dump(content)
        return target.getvalue()
    finally:
        for name in modules:
            del sys.modules[name]


def write(content: object, path: Path, protocol: int = 4) -> Path:
    path.write_bytes(dumped(content, protocol))
    return path
