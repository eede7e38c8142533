"""The globals that a network pickle may name, and what is built in their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from restyle.core.checkpoints.nvidia.arrays import (
    array_of_buffer,
    array_type,
    empty_array,
    load_storage,
    parameter,
    rebuild_tensor,
    scalar,
)
from restyle.core.checkpoints.nvidia.unpickler import (
    Constructors,
    Name,
    PickleRefusedError,
    hashable,
)


@dataclass(frozen=True)
class PersistentObject:
    """An object of ``torch_utils.persistence``: a network or a layer of StyleGAN2-ADA in PyTorch.

    The source of its class, which the pickle holds too, is dropped unread.

    Attributes:
        class_name: name of the class.
        state: the object's attributes; of a module, ``_parameters``, ``_buffers``, ``_modules``.
    """

    class_name: str
    state: dict[str, Any]


@dataclass
class TensorFlowNetwork:
    """A ``dnnlib.tflib.network.Network``: StyleGAN2 in TensorFlow.

    Attributes:
        state: ``version``, ``static_kwargs``, ``components``, ``variables``, ...; the source of the
            network, which the pickle holds too, is dropped unread.
    """

    state: dict[str, Any] = field(default_factory=dict)

    def set_state(self, state: Any) -> None:
        """Take the attributes."""
        if not isinstance(state, dict):
            raise PickleRefusedError("has a network without attributes")
        self.state = {key: value for key, value in state.items() if key != "build_module_src"}


_NETWORK = Name("dnnlib.tflib.network", "Network")
_DICTIONARIES = (
    Name("dnnlib.util", "EasyDict"),
    Name("dnnlib", "EasyDict"),
    Name("collections", "OrderedDict"),
)


def _network() -> TensorFlowNetwork:
    return TensorFlowNetwork()


def _persistent_object(meta: Any) -> PersistentObject:
    match meta:
        case {"type": "class", "version": 6, "class_name": str(name), "state": dict(state)}:
            return PersistentObject(name, state)
    raise PickleRefusedError("has an object of an unknown version of torch_utils.persistence")


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    return {hashable(key): value for key, value in pairs}


def _set(items: Any = ()) -> set[Any]:
    return {hashable(item) for item in items}


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """``_codecs.encode``, by which the protocols 0 to 2 write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise PickleRefusedError(f"encodes text as {encoding[:20]!r}")
    return text.encode("latin-1")


def _bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    if isinstance(content, str):
        return _encoded(content, encoding)
    if not isinstance(content, bytes | bytearray):
        # bytes(n) would allocate n zeros.
        raise PickleRefusedError("makes bytes of something else")
    return bytes(content)


def _reconstructed(name: Any, _: Any, state: Any = None) -> TensorFlowNetwork | dict[Any, Any]:
    """``copyreg._reconstructor(class, base, state)``, as the protocols 0 and 1 write objects."""
    if name == _NETWORK:
        return TensorFlowNetwork()
    if name in _DICTIONARIES and isinstance(state, dict):
        return dict(state)
    raise PickleRefusedError("creates an object of a class that is not known")


def _tuple_of(items: Any = ()) -> tuple[Any, ...]:
    if not isinstance(items, list | tuple):
        raise PickleRefusedError("has a shape of something else")
    return tuple(items)


CONSTRUCTORS: Constructors = {
    Name("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    _NETWORK: _network,
    **dict.fromkeys(_DICTIONARIES, _dictionary),
    Name("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    Name("torch._utils", "_rebuild_parameter"): parameter,
    Name("torch.storage", "_load_from_bytes"): load_storage,
    Name("torch", "Size"): _tuple_of,
    Name("numpy", "dtype"): array_type,
    Name("numpy", "ndarray"): None,
    **{
        Name(f"{module}.{part}", name): construct
        for module in ("numpy.core", "numpy._core")
        for part, name, construct in (
            ("multiarray", "_reconstruct", empty_array),
            ("multiarray", "scalar", scalar),
            ("numeric", "_frombuffer", array_of_buffer),
        )
    },
    Name("_codecs", "encode"): _encoded,
    **{
        Name(module, name): construct
        for module in ("builtins", "__builtin__")
        for name, construct in (
            ("set", _set),
            ("frozenset", _set),
            ("bytes", _bytes),
            ("bytearray", _bytes),
            ("object", None),
            ("dict", None),
        )
    },
    Name("copyreg", "_reconstructor"): _reconstructed,
    Name("copy_reg", "_reconstructor"): _reconstructed,
}
"""Functions for the globals that may be called; None for those that may only be named."""
