"""An unpickler that builds plain values and calls nothing from the file.

A pickle is a program for a stack machine, and Python's own machine imports and calls whatever the
program names. This one interprets the same opcodes (``pickletools`` decodes them), but a
global is only a name, and a call of a name is looked up in a fixed table of functions that build
inert values (:data:`restyle.core.checkpoints.nvidia.constructors.CONSTRUCTORS`). Everything else
in the file is refused by name. Memory and time are bounded by the size of the file: nothing is
allocated by a declared size, memo indices are keys of a dictionary, and only scalars are hashed.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from restyle.core.errors import reason_of
from restyle.core.shown_text import visible

MOST_OPCODES = 5_000_000
"""Of one pickle; those of published networks have some ten thousand."""

_LAST_PROTOCOL = 5
_SHOWN_NAME = 100


class PickleRefusedError(ValueError):
    """The pickle is unsafe or damaged; the message gives the reason in one line."""


@dataclass(frozen=True)
class Name:
    """A global that a pickle names; it is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        shown = f"{self.module}.{self.name}"[:_SHOWN_NAME]
        return visible(shown)


class Shell(Protocol):
    """A value whose state comes after it in the pickle."""

    def set_state(self, state: Any) -> None:
        """Take the state.

        Raises:
            PickleRefusedError: it is not such a value's state.
        """


File = IO[bytes] | mmap.mmap

Constructors = Mapping[Name, Callable[..., Any] | None]
"""Functions that stand in for globals; None for a global that may be named but not called."""

PersistentLoad = Callable[[Any], Any]


def unpickle(
    file: File, constructors: Constructors, persistent: PersistentLoad | None = None
) -> Any:
    """Read one pickle, up to its STOP opcode.

    Args:
        file: positioned at the pickle.
        constructors: functions for the globals that may be called.
        persistent: function for persistent ids; None refuses them.

    Raises:
        PickleRefusedError: the pickle names another global, or is damaged.
    """
    machine = _Machine(constructors, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], file))):
            if count >= MOST_OPCODES:
                raise PickleRefusedError(f"has more than {MOST_OPCODES:,} instructions")
            machine.run(opcode.name, argument)
        return machine.result()
    except PickleRefusedError:
        raise
    except Exception as error:
        # Malformed pickles make pickletools and the table's functions raise almost anything:
        # ValueError, struct.error, UnicodeDecodeError, IndexError, KeyError, TypeError, ...
        raise PickleRefusedError(f"is damaged ({reason_of(error)[:_SHOWN_NAME]})") from error


class _Mark:
    """The place on the stack that MARK leaves."""


_MARK = _Mark()

_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
        *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


class _Machine:
    def __init__(self, constructors: Constructors, persistent: PersistentLoad | None) -> None:
        self._constructors = constructors
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """The value that is left when the pickle stops."""
        if len(self._stack) != 1 or isinstance(self._stack[0], Name | _Mark):
            raise PickleRefusedError("is damaged (it leaves no value)")
        return self._stack[0]

    def run(self, opcode: str, argument: Any) -> None:
        """Run one instruction."""
        if opcode in _VALUES:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            self._stack.append(tuple(self._pop_many(_TUPLES[opcode])))
        elif opcode in _PUTS:
            self._memo[argument] = self._top()
        elif opcode in _GETS:
            self._stack.append(self._memo[argument])
        else:
            operation = getattr(self, f"op_{opcode.lower()}", None)
            if operation is None:
                raise PickleRefusedError(f"has the instruction {opcode}, which networks do not use")
            operation(argument)

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise PickleRefusedError("is damaged (it takes from an empty stack)")
        return self._stack[-1]

    def _pop(self) -> Any:
        top = self._top()
        self._stack.pop()
        return top

    def _pop_many(self, count: int) -> list[Any]:
        return [self._pop() for _ in range(count)][::-1]

    def _pop_to_mark(self) -> list[Any]:
        for at in range(len(self._stack) - 1, -1, -1):
            if self._stack[at] is _MARK:
                taken = self._stack[at + 1 :]
                del self._stack[at:]
                return taken
        raise PickleRefusedError("is damaged (a mark is missing)")

    # One method for each of the other opcodes, by its name in pickletools.

    def op_proto(self, version: int) -> None:
        if version > _LAST_PROTOCOL:
            raise PickleRefusedError(f"has protocol {version}; up to {_LAST_PROTOCOL} are known")

    def op_frame(self, _: int) -> None:
        pass

    def op_stop(self, _: None) -> None:
        pass

    def op_mark(self, _: None) -> None:
        self._stack.append(_MARK)

    def op_pop(self, _: None) -> None:
        self._stack.pop()

    def op_pop_mark(self, _: None) -> None:
        self._pop_to_mark()

    def op_dup(self, _: None) -> None:
        self._stack.append(self._top())

    def op_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._top()

    def op_empty_list(self, _: None) -> None:
        self._stack.append([])

    def op_empty_dict(self, _: None) -> None:
        self._stack.append({})

    def op_empty_set(self, _: None) -> None:
        self._stack.append(set())

    def op_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def op_list(self, _: None) -> None:
        self._stack.append(self._pop_to_mark())

    def op_dict(self, _: None) -> None:
        self._stack.append(_pairs(self._pop_to_mark()))

    def op_frozenset(self, _: None) -> None:
        self._stack.append({hashable(item) for item in self._pop_to_mark()})

    def op_append(self, _: None) -> None:
        item = self._pop()
        _expect(self._top(), list).append(item)

    def op_appends(self, _: None) -> None:
        items = self._pop_to_mark()
        _expect(self._top(), list).extend(items)

    def op_setitem(self, _: None) -> None:
        pair = self._pop_many(2)
        _expect(self._top(), dict).update(_pairs(pair))

    def op_setitems(self, _: None) -> None:
        pairs = self._pop_to_mark()
        _expect(self._top(), dict).update(_pairs(pairs))

    def op_additems(self, _: None) -> None:
        items = self._pop_to_mark()
        _expect(self._top(), set).update(hashable(item) for item in items)

    def op_global(self, argument: str) -> None:
        # Decoded as "module name", both without spaces.
        module, _, name = argument.partition(" ")
        self._stack.append(self._allowed(module, name))

    def op_stack_global(self, _: None) -> None:
        module, name = self._pop_many(2)
        self._stack.append(self._allowed(_expect(module, str), _expect(name, str)))

    def op_reduce(self, _: None) -> None:
        name, arguments = self._pop_many(2)
        self._call(name, _expect(arguments, tuple))

    def op_newobj(self, _: None) -> None:
        self.op_reduce(None)

    def op_newobj_ex(self, _: None) -> None:
        name, arguments, options = self._pop_many(3)
        if options:
            raise PickleRefusedError("creates an object with named arguments")
        self._call(name, _expect(arguments, tuple))

    def op_obj(self, _: None) -> None:
        name, *arguments = self._pop_to_mark()
        self._call(name, tuple(arguments))

    def op_inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._call(self._allowed(module, name), tuple(self._pop_to_mark()))

    def op_build(self, _: None) -> None:
        state = self._pop()
        value = self._top()
        if isinstance(value, dict):
            # Attributes of an OrderedDict or an EasyDict, which networks do not use.
            return
        set_state = getattr(type(value), "set_state", None)
        if set_state is None:
            raise PickleRefusedError(f"gives a {type(value).__name__} attributes")
        set_state(value, state)

    def op_persid(self, argument: str) -> None:
        self._load_persistent(argument)

    def op_binpersid(self, _: None) -> None:
        self._load_persistent(self._pop())

    def _load_persistent(self, identifier: Any) -> None:
        if self._persistent is None:
            raise PickleRefusedError("refers to objects outside of itself")
        self._stack.append(self._persistent(identifier))

    def _allowed(self, module: str, name: str) -> Name:
        named = Name(module, name)
        if named not in self._constructors:
            raise PickleRefusedError(f"asks for {named}, which could run code")
        return named

    def _call(self, name: Any, arguments: tuple[Any, ...]) -> None:
        construct = self._constructors[name] if isinstance(name, Name) else None
        if construct is None:
            shown = name if isinstance(name, Name) else f"a {type(name).__name__}"
            raise PickleRefusedError(f"calls {shown}, which could run code")
        self._stack.append(construct(*arguments))


def hashable(key: Any) -> Any:
    """Check the key of a dictionary or the item of a set.

    Raises:
        PickleRefusedError: it is no plain value. Hashing nested tuples can take forever.
    """
    if key is not None and not isinstance(key, str | int | float | bytes):
        raise PickleRefusedError(f"has a {type(key).__name__} as the key of a dictionary")
    return key


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return {hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise PickleRefusedError(
            f"is damaged (a {type(value).__name__} in place of a {kind.__name__})"
        )
    return value
