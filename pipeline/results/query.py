"""SQL queries over the datasets of an output, in a locked DuckDB.

DuckDB gets the datasets as lazily read Arrow tables. Then it is locked: it cannot open files and
connections, load extensions, read variables of this process, or change these settings. It can only
read the views.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.core.errors import FatalError, RestyleError, SpecError
from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.operation import Operation, bound_to
from restyle.pipeline.ledger.datasets import DATASETS, schema
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.part_names import dataset_of
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot
from restyle.pipeline.results.table_source import table_source
from restyle.pipeline.storage.errors import DAMAGE

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 2048

_LOCKS = (
    "set python_enable_replacements = false",
    "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false",
    "set allow_community_extensions = false",
    "set temp_directory = ''",
    "set enable_external_access = false",
    "set lock_configuration = true",
)

_CURRENT = """
create view {name} as select * from {every} as rows where not exists (
  select 1 from newest_revisions as newest
  where newest.image_id = rows.image_id and newest.revision <> rows.revision)
"""


def query(out: str, sql: str) -> pa.RecordBatchReader:
    """Run one SQL query on an output.

    The views are ``latents``, ``steps``, ``reconstructions``, ``rejects``, and further datasets of
    the output; ``all_latents`` and so on include older revisions. An output of ``restyle edit`` has
    the view ``edits``.

    Args:
        out: the output, a path or any fsspec URI.
        sql: one ``select``, or an equivalent statement such as ``describe latents``.

    Returns:
        The result, computed while it is read.

    Raises:
        SpecError: there is no such output, or the query is not one ``select``, or invalid.
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    connection = _connect()
    output = Output.at(out)
    bound = bound_to(output.storage)
    if bound is not None and bound[0].name != "inversion":
        with _explained(""):
            _register_rows(connection, output, bound[0])
    else:
        _register_run(connection, out)
    _lock(connection)
    return _answer(connection, sql)


def _register_rows(
    connection: duckdb.DuckDBPyConnection, output: Output, operation: Operation[Any]
) -> None:
    """Create tables of the datasets of an output without revisions that have rows."""
    check_units(output)
    names: dict[str, list[str]] = {}
    for files in output.sets():
        for file in files.files:
            names.setdefault(dataset_of(file.name), []).append(file.name)
    if not names:
        raise SpecError(f"{output.storage.uri} holds no {operation.datasets[0]} yet")
    for dataset in names.keys() & set(operation.datasets):
        connection.register(dataset, table_source(output.address, names[dataset]))


def _register_run(connection: duckdb.DuckDBPyConnection, out: str) -> None:
    """Create views of the datasets of an inversion."""
    snapshot = read_snapshot(out)
    names = [*DATASETS, *sorted(_datasets(snapshot) - set(DATASETS))]
    for name in names:
        every = f"all_{name}"
        with contextlib.ExitStack() as stack:
            stack.enter_context(_explained(""))
            connection.register(every, _source(out, snapshot, name))
            if snapshot.newest.num_rows:
                connection.register("newest_revisions", snapshot.newest)
                connection.execute(_CURRENT.format(name=name, every=every))
            else:
                connection.execute(f"create view {name} as select * from {every}")  # noqa: S608


def matching(rows: pa.Table, where: str) -> npt.NDArray[np.bool_]:
    """Evaluate a condition on a table in memory.

    Args:
        rows: the table.
        where: SQL condition.

    Returns:
        One boolean per row.

    Raises:
        SpecError: the condition is invalid.
    """
    connection = _connect()
    number = pa.array(np.arange(rows.num_rows))
    connection.register("latents", rows.append_column("row number", number))
    _lock(connection)
    # On a separate line, because it may end with a comment.
    sql = f'select "row number" from latents where (\n{where}\n)'  # noqa: S608 (it is locked)
    found = np.zeros(rows.num_rows, bool)
    for batch in _answer(connection, sql):
        found[batch.column(0).to_numpy()] = True
    return found


def _connect() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(":memory:")


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    for setting in _LOCKS:
        connection.execute(setting)


def _answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    import duckdb

    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise SpecError("the question holds bytes that are not text in UTF-8") from error
    with _explained(sql):
        statements = connection.extract_statements(sql)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise SpecError("ask one question, which begins with select; nothing can be changed")
        reader = connection.sql(statements[0]).to_arrow_reader(BATCH_ROWS)
        return pa.RecordBatchReader.from_batches(reader.schema, _batches(reader, sql))


def _batches(reader: pa.RecordBatchReader, sql: str) -> Iterator[pa.RecordBatch]:
    # Errors may also occur while the result is computed.
    with _explained(sql):
        yield from reader


@contextlib.contextmanager
def _explained(sql: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except RestyleError:
        raise
    except (duckdb.IOException, duckdb.OutOfMemoryException, pa.ArrowInvalid, OSError) as error:
        if (cause := _ours(error)) is not None:
            raise cause from error
        # Arrow says no more of a file that is not there than its path.
        what = " is missing" if isinstance(error, FileNotFoundError) else ""
        advice = f"; {DAMAGE}" if isinstance(error, OSError | duckdb.IOException) else ""
        raise FatalError(f"cannot answer: {_line(error)}{what}{advice}") from error
    except (duckdb.Error, pa.ArrowException, RuntimeError, UnicodeError) as error:
        raise SpecError(f"cannot answer: {_line(error)}") from error


def _ours(error: BaseException | None) -> RestyleError | None:
    """This project's error among the causes of a library's error, or None."""
    while error is not None and not isinstance(error, RestyleError):
        error = error.__cause__ or error.__context__
    return error


def _line(error: Exception) -> str:
    """DuckDB's message in one line, without the excerpt of the query."""
    text = str(error).partition("\n\nLINE ")[0].partition("\nLINE ")[0]
    return " ".join(text.split())


def _datasets(snapshot: Snapshot) -> set[str]:
    return {file.name.partition("/")[0] for files in snapshot.sets for file in files.files}


def _source(out: str, snapshot: Snapshot, dataset: str) -> Any:
    """A dataset for DuckDB: lazily read files, or an empty table."""
    files = snapshot.files(dataset)
    if files:
        return table_source(out, [file.name for file in files])
    fields: Mapping[str, pa.Field] = {
        field.name: field for field in schema(dataset, snapshot.settings, (1, 1))
    }
    # The length of latents is unknown without rows.
    unknown = pa.field("latent", pa.list_(pa.float32()))
    kept = [unknown if name == "latent" else field for name, field in fields.items()]
    return pa.schema(kept).empty_table()
