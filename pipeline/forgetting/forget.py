"""Forget inputs: remove all that an output and what was made of it hold of them, for good.

The journal is written first and removed last; until then nothing else may change the output, and
the same call continues after a kill. Datasets come before records and logs, and the manifest last,
because it alone knows the names.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from restyle.core.errors import RestyleError, SpecError
from restyle.pipeline.accounting.compaction import tidy
from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.operation import bound_to
from restyle.pipeline.accounting.status import bound_of
from restyle.pipeline.exporting.export import make_export
from restyle.pipeline.exporting.target import read_marker
from restyle.pipeline.forgetting.derived import Derived, read_derived
from restyle.pipeline.forgetting.journal import Journal, read_journal, samples_of
from restyle.pipeline.forgetting.plans import planned_images, remove_planned
from restyle.pipeline.forgetting.rows import RowRemoval
from restyle.pipeline.forgetting.search import Needles, Searched, search
from restyle.pipeline.forgetting.texts import remove_copies, scrub
from restyle.pipeline.forgetting.tombstone import JOURNAL, Tombstone, remember
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.source_names import NO_MATCH, best_rank, source_ranks
from restyle.pipeline.listener import Listener
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.addresses import local_path
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.lock import DriverLock, driver_lock

_METHODS, _PAGE = "methods", "evaluation.html"
"""What :mod:`restyle.pipeline.evaluation`, which lies above, writes into its folder."""


@dataclass
class Forgotten:
    """Result of :func:`forget`.

    Attributes:
        inputs: Number of inputs that were removed, or would be.
        sources: Their names, sorted; those of an earlier call that is continued are included.
        searched: The search of all bytes after the removal; empty before it.
    """

    inputs: int
    sources: list[str]
    searched: Searched = field(default_factory=Searched)


def forget(
    out: str,
    sources: Sequence[str],
    also: Sequence[str] = (),
    *,
    apply: bool,
    listener: Listener | None = None,
) -> Forgotten:
    """Remove inputs from an output, its packs, edits, exports, records and logs.

    Args:
        out: an inversion, a path or any fsspec URI.
        sources: names of inputs, whole, by their last part, or as patterns; see
            :mod:`restyle.pipeline.ledger.source_names`. None continues an earlier call.
        also: outputs of edits and folders of exports that ``out`` does not know to be made of it.
        apply: remove them; if false, only find them.
        listener: receives notes.

    Raises:
        SpecError: a name matches no input, there is nothing to continue, ``out`` is not an
            inversion, or another run is using it.
        FatalError: a file is damaged or cannot be written; the same call continues.
    """
    listener = listener or Listener()
    output = Output.at(out)
    _refuse_evaluation(output.storage)
    operation, _ = bound_of(output.storage)
    if operation.name != "inversion":
        raise SpecError(
            f"{output.storage.uri} holds {operation.holds}; name the inversion, whose edits follow"
        )
    if not apply:
        check_units(output)
        images = _matching(output, sources)
        journal = read_journal(output.storage) or Journal(image_ids=frozenset())
        return _result(journal.joined(_journal(images)), Searched())
    with driver_lock(output.storage, listener) as lock:
        output.look()
        check_units(output)
        earlier = read_journal(output.storage)
        if earlier is None and not sources:
            raise SpecError("name an input with --source or --list; nothing is to be continued")
        journal = _journal(_matching(output, sources)).joined(
            Journal(image_ids=frozenset(), also=tuple(also))
        )
        journal = journal if earlier is None else earlier.joined(journal)
        searched = Searched()
        _forget_in(output, journal, lock, listener, searched)
    return _result(journal, searched)


def _refuse_evaluation(storage: Storage) -> None:
    """Say what to forget in, if a folder was written by ``restyle evaluate``."""
    if bound_to(storage) is not None:
        return
    end = f"/{ledger.SETTINGS_FILE}"
    methods = [
        storage.shown(name.removesuffix(end))
        for name in storage.tree()
        if name.endswith(end) and PurePosixPath(name).parts[:1] == (_METHODS,)
    ]
    if methods:
        commands = "; ".join(f"`restyle forget {method} --source NAME --yes`" for method in methods)
        raise SpecError(
            f"{storage.uri} holds an evaluation; forget in each method, whose edits follow: "
            f"{commands}; and remove {storage.shown(_PAGE)}, which has pictures"
        )


def _result(journal: Journal, searched: Searched) -> Forgotten:
    # The journal also has the addresses of files, as URIs.
    sources = journal.names - {f"file://{name}" for name in journal.names}
    return Forgotten(len(journal.image_ids), sorted(sources), searched)


def _matching(output: Output, sources: Sequence[str]) -> list[SourceImage]:
    """The inputs that the names match best.

    Raises:
        SpecError: a name matches none.
    """
    images = planned_images(output, lambda _image: True) if sources else []
    column = pa.chunked_array([pa.array([image.source for image in images], pa.string())])
    chosen = np.zeros(len(images), bool)
    for name in sources:
        rank = best_rank([column], name)
        if rank == NO_MATCH:
            raise SpecError(
                f"no input of {output.storage.uri} is called {name!r}; give a name as the column "
                "source of latents and rejects has it, its last part, or a pattern"
            )
        chosen |= source_ranks(column, name) == rank
    ids = {images[index].image_id for index in np.flatnonzero(chosen).tolist()}
    return [image for image in images if image.image_id in ids]


def _journal(images: Sequence[SourceImage]) -> Journal:
    names = {image.source for image in images}
    # An address is a path as the system has it, which need not be UTF-8.
    names |= {uri for image in images if not image.place and (uri := _decoded(image.uri))}
    return Journal(image_ids=frozenset(image.image_id for image in images), names=frozenset(names))


def _decoded(uri: bytes) -> str:
    try:
        return uri.decode()
    except UnicodeDecodeError:
        return ""


def _forget_in(
    output: Output, journal: Journal, lock: DriverLock, listener: Listener, searched: Searched
) -> None:
    """Remove the inputs of a journal from one output, and from what was made of it."""
    storage = output.storage
    operation, settings = bound_of(storage)
    rows = RowRemoval(output, operation, settings, journal.image_ids, lock)
    samples = {
        sample
        for files in rows.affected()
        for table in rows.rows(files).values()
        for sample in samples_of(table)
    }
    journal = journal.joined(Journal(image_ids=frozenset(), samples=frozenset(samples)))
    journal.write(storage)
    remember(storage, journal.image_ids)
    remove_copies(storage)
    tidy(output, operation, settings)
    rows.remove()
    tidy(output, operation, settings)
    for folder in ("", ledger.FOLDER, *operation.datasets_of(settings)):
        storage.sweep(folder)
    scrub(storage, journal.names | journal.image_ids)
    needles = Needles(journal.names | journal.image_ids, journal.sample_bytes())
    is_forgotten = journal.image_ids.__contains__
    for each in _made_of(storage, journal, listener):
        _forget_elsewhere(output, each, journal, needles, listener, searched)
    remove_planned(output, journal.image_ids, journal.names)
    output = Output(storage)
    if output.entries.units:
        operation.write_report(output, settings)
    _add(searched, search(storage, needles, is_forgotten))
    lock.confirm()
    storage.delete(JOURNAL)


def _made_of(storage: Storage, journal: Journal, listener: Listener) -> list[Derived]:
    """Edits and exports of an output that still exist."""
    known = {each.address: each for each in read_derived(storage)}
    for address in journal.also:
        kind = "export" if _is_export(address) else "edits"
        known.setdefault(address, Derived(kind=kind, address=address))
    found = []
    for each in known.values():
        if open_storage(each.address).tree():
            found.append(each)
        else:
            listener.noted(
                f"{each.address} is not there; where it was moved or copied to, name with --also"
            )
    return found


def _is_export(address: str) -> bool:
    path = local_path(address)
    return path is not None and read_marker(Path(path)) is not None


def _forget_elsewhere(
    output: Output,
    derived: Derived,
    journal: Journal,
    needles: Needles,
    listener: Listener,
    searched: Searched,
) -> None:
    is_forgotten = journal.image_ids.__contains__
    storage = open_storage(derived.address)
    if derived.kind == "edits":
        edits = Output(storage)
        with driver_lock(storage, listener) as lock:
            edits.look()
            check_units(edits)
            alone = journal.model_copy(update={"also": ()})
            _forget_in(edits, alone, lock, listener, searched)
        return
    if search(storage, needles, is_forgotten).found:
        _make_again(output, Path(derived.address), listener)
    if storage.tree():
        _add(searched, search(open_storage(derived.address), needles, is_forgotten))


def _make_again(output: Output, folder: Path, listener: Listener) -> None:
    """Export what is left in place of an earlier export."""
    about = read_marker(folder)
    if about is None:
        listener.noted(f"{folder} is no export of restyle; what is found there is left")
        return
    shutil.rmtree(folder)
    try:
        make_export(output.address, str(about.get("format")), folder)
        listener.noted(f"{folder} is exported again")
    except RestyleError as error:
        listener.noted(f"{folder} is removed, and was not exported again: {error}")


def _add(total: Searched, more: Searched) -> None:
    total.found += more.found
    total.files += more.files
    total.size += more.size


def verify_forgotten(out: str, sources: Sequence[str] = ()) -> Searched:
    """Search all bytes of an output, its edits and exports for forgotten inputs.

    Ids are compared with the tombstone; names, which it does not have, with those that are given.

    Args:
        out: the output, a path or any fsspec URI.
        sources: whole names of forgotten inputs.

    Raises:
        SpecError: nothing was forgotten, and no name is given.
        FatalError: a file cannot be read.
    """
    storage = open_storage(out)
    bound_of(storage)
    tombstone = Tombstone.read(storage)
    if tombstone is None and not sources:
        raise SpecError(f"nothing was forgotten in {storage.uri}; name what to search for")
    holds: Callable[[str], bool] = tombstone.holds if tombstone else lambda _image_id: False
    total = Searched()
    for each in [storage.address, *(each.address for each in read_derived(storage))]:
        _add(total, search(open_storage(each), Needles(sources), holds))
    if JOURNAL in storage.sizes(ledger.FOLDER):
        total.found.append(
            f"{storage.shown(JOURNAL)} says that forgetting is not complete; finish it with "
            f"`restyle forget {storage.uri} --yes`"
        )
    return total
