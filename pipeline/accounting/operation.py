"""Operations: the kinds of outputs that there are, and what differs between them.

An operation makes rows out of inputs: inversion makes latents of photographs, editing makes edited
faces of latents. Everything that plans, runs, proves, compacts or shows an output goes through the
protocol below and knows no operation. Built-in operations are listed here; packages outside this
project add theirs through the entry-point group ``restyle.operations``, each the name of an
:class:`Operation` object.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from pydantic import ValidationError

from restyle.core.errors import DamagedError, FatalError, SpecError
from restyle.pipeline.accounting.proof import Proof
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.storage.filesystem import Storage

if TYPE_CHECKING:
    import pyarrow as pa

S = TypeVar("S", bound=Settings)

GROUP = "restyle.operations"

_BUILT_IN = {
    "inversion": "restyle.pipeline.inversion.operation:INVERSION",
    "editing": "restyle.pipeline.editing.operation:EDITING",
}


class Operation(ABC, Generic[S]):
    """One kind of output.

    Attributes:
        name: of the operation, ``inversion``.
        holds: what its outputs hold, ``an inversion``.
        inputs: what its inputs are called, ``photographs``.
        settings_file: where an output keeps what shapes its rows.
        datasets: the folders of rows; the first has the operation's own result.
        is_revised: inputs that changed are planned again, with a higher revision.
    """

    name: ClassVar[str]
    holds: ClassVar[str]
    inputs: ClassVar[str] = "inputs"
    settings_file: ClassVar[str]
    datasets: ClassVar[tuple[str, ...]]
    is_revised: ClassVar[bool]

    @property
    @abstractmethod
    def settings_type(self) -> type[S]:
        """What shapes the rows."""

    def read_settings(self, storage: Storage) -> S | None:
        """What an output was made with; None where it was not made by this operation.

        Raises:
            FatalError: the settings are damaged.
        """
        try:
            return self.settings_type.model_validate_json(storage.read(self.settings_file))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DamagedError(
                f"{storage.shown(self.settings_file)} is damaged or was written by another "
                "version of restyle; see `restyle repair`, or choose another --out"
            ) from error

    def write_settings(self, storage: Storage, settings: S) -> None:
        """Bind an output to its settings."""
        storage.write(self.settings_file, settings.model_dump_json(indent=1).encode())

    @abstractmethod
    def schema(self, dataset: str, settings: S, found: pa.Schema) -> pa.Schema:
        """The schema of a dataset's files.

        Args:
            dataset: one of :attr:`datasets`.
            settings: of the output.
            found: the schema of a file, which has the shape of the latents.
        """

    @abstractmethod
    def proof(self, storage: Storage, settings: S, done: Collection[str]) -> Proof:
        """What checks an output.

        Args:
            storage: the output.
            settings: of it.
            done: units that count as done, where it matters whether an input was done again.

        Raises:
            FatalError: the manifest is damaged.
        """

    @abstractmethod
    def write_report(self, output: Output, settings: S) -> str:
        """Write ``report.html`` from what is committed.

        Args:
            output: where.
            settings: of it.

        Returns:
            Where the report is.
        """


@functools.cache
def operations() -> Mapping[str, Operation[Any]]:
    """All operations by name, the built-in ones first.

    Raises:
        FatalError: one that another package registers cannot be imported.
    """
    found = {name: _load(place) for name, place in _BUILT_IN.items()}
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            found.setdefault(point.name, point.load())
        except Exception as error:
            raise FatalError(
                f"the operation {point.name} of {point.value} cannot be imported: {error}; "
                "repair or uninstall its package"
            ) from error
    return found


def bound_to(storage: Storage) -> tuple[Operation[Any], Settings] | None:
    """What made an output, and the settings that it was made with; None where nothing was run.

    Raises:
        FatalError: the settings are damaged, or gone although something is done.
    """
    found = [
        (operation, settings)
        for operation in operations().values()
        if (settings := operation.read_settings(storage)) is not None
    ]
    if len(found) > 1:
        kinds = " and of ".join(operation.holds for operation, _ in found)
        raise FatalError(
            f"{storage.uri} has settings of {kinds}; see `restyle repair {storage.uri}`"
        )
    if not found and (done := ledger.entry_names(storage)):
        raise FatalError(
            f"{storage.uri} has lost the settings that it was made with ({len(done)} entries of "
            f"its ledger need them); see `restyle repair {storage.uri}`"
        )
    return found[0] if found else None


def own_settings(storage: Storage, operation: Operation[S], option: str = "--out") -> S | None:
    """The settings of an output that must not be another operation's; None where it is new.

    Raises:
        SpecError: it is another operation's.
        FatalError: as :func:`bound_to`.
    """
    bound = bound_to(storage)
    if bound is not None and bound[0].name != operation.name:
        raise SpecError(f"{storage.uri} holds {bound[0].holds}; choose another {option}")
    return None if bound is None else cast("S", bound[1])


def _load(place: str) -> Operation[Any]:
    module, _, name = place.partition(":")
    operation: Operation[Any] = getattr(importlib.import_module(module), name)
    return operation
