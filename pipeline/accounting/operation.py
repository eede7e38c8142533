"""Operations: the protocol for the kinds of output, and the registry of its implementations.

An operation makes rows from inputs: inversion makes latents from photographs, editing makes edited
faces from latents. The code that plans, runs, verifies, compacts or shows an output uses only the
protocol below, so that it works for every operation. This module lists the built-in operations;
other packages register theirs in the entry-point group ``restyle.operations``, where each entry
point names an :class:`Operation` object.
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
from restyle.core.shown_text import plural
from restyle.pipeline.accounting.proof import Proof
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.records import MetricSums
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.storage.filesystem import Storage
from restyle.pipeline.storage.marks import marked_as

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
        name: Name of the operation, such as ``inversion``.
        holds: Content of its outputs as a noun phrase for messages, such as ``an inversion``.
        inputs: Plural noun for its inputs in messages, such as ``photographs``.
        settings_file: Path of the settings file, relative to the output.
        datasets: Folders of Parquet files that every output may have; the first holds the
            operation's main result.
        is_revised: Whether changed inputs are planned again with a higher revision.
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
        """The class of the operation's settings."""

    def read_settings(self, storage: Storage) -> S | None:
        """Read the settings of an output.

        Returns:
            The settings; None if the output has none of this operation.

        Raises:
            DamagedError: the settings file is damaged.
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
        """Write the settings file, which binds the output to these settings."""
        storage.write(self.settings_file, settings.model_dump_json(indent=1).encode())

    def datasets_of(self, settings: S) -> tuple[str, ...]:
        """Return the datasets of an output with these settings; by default all."""
        del settings
        return self.datasets

    @abstractmethod
    def schema(self, dataset: str, settings: S, found: pa.Schema) -> pa.Schema:
        """Return the schema that the files of a dataset must have.

        Args:
            dataset: one of :meth:`datasets_of`.
            settings: the output's settings.
            found: the schema of an actual file, which gives the shape of the latents.
        """

    def sums_of(self, rows: pa.Table, settings: S) -> dict[str, MetricSums] | None:
        """Compute the sums of a unit's entry from its rows.

        Args:
            rows: the unit's rows of the first dataset.
            settings: the output's settings.

        Returns:
            Sums by name; None if they are those of columns at each step, as of an inversion.
        """
        del rows, settings
        return None

    @abstractmethod
    def proof(self, storage: Storage, settings: S, done: Collection[str]) -> Proof:
        """Return an object that verifies an output.

        Args:
            storage: the output.
            settings: the output's settings.
            done: names of the committed units; they decide which revision of an input is current.

        Raises:
            FatalError: the manifest is damaged.
        """

    @abstractmethod
    def write_report(self, output: Output, settings: S) -> str:
        """Write ``report.html`` from the committed rows.

        Args:
            output: the output to report on.
            settings: the output's settings.

        Returns:
            The path or URI of the report, without credentials.
        """


@functools.cache
def operations() -> Mapping[str, Operation[Any]]:
    """Return all operations by name, the built-in ones first.

    Raises:
        FatalError: an operation registered by another package cannot be imported.
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
    """Return the operation and the settings of an output; None before its first run.

    Raises:
        FatalError: the settings are damaged, belong to several operations, or are missing although
            the ledger has entries.
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
        needing = plural(len(done), "entry of its ledger needs", "entries of its ledger need")
        raise FatalError(
            f"{storage.uri} has lost the settings that it was made with ({needing} them); "
            f"see `restyle repair {storage.uri}`"
        )
    return found[0] if found else None


def own_settings(storage: Storage, operation: Operation[S], option: str = "--out") -> S | None:
    """Return an output's settings if it belongs to ``operation``; None if the output is new.

    Args:
        storage: the output.
        operation: the operation that the output must belong to.
        option: the command-line option that names the output, for the error message.

    Raises:
        SpecError: the output belongs to another operation, or its folder holds an export, a page
            or an evaluation.
        FatalError: the settings cannot be used; see :func:`bound_to`.
    """
    bound = bound_to(storage)
    if bound is not None and bound[0].name == operation.name:
        return cast("S", bound[1])
    if held := marked_as(storage) if bound is None else bound[0].holds:
        raise SpecError(f"{storage.uri} holds {held}; choose another {option}")
    return None


def _load(place: str) -> Operation[Any]:
    module, _, name = place.partition(":")
    operation: Operation[Any] = getattr(importlib.import_module(module), name)
    return operation
