"""The audit as DuckDB tables over its Parquet parts: the ledger says which, and nothing else can be reached from a query.

No extension is loaded or downloaded. Access to files is off but for the parts' own names, configuration is locked, Python
variables are not visible, nothing is spilled to disk, and only statements of the kind SELECT run.
"""

# ruff: noqa: S608  names come from the schema, paths from the ledger, both quoted; values are always bound

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_facefog.audit.amendments import erasure_rows
from airflow_facefog.audit.answer import CHUNK, Answer, Stream, stream
from airflow_facefog.audit.duck_files import SCHEME, AuditFiles
from airflow_facefog.audit.ledger import Ledger
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.query import TIMEOUT_S, refused, runs_with, stops
from airflow_facefog.audit.schema import EGRESS, ERASURE, RUN, SOURCE, TABLES, Table, table
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.audit.sealed_rows import failed_rows, run_row
from airflow_facefog.audit.statement import DUCKDB, bind, one_statement
from airflow_facefog.audit.views import VIEWS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PARTS = ("image", "detection", "intent")
"""Sealed parts that are tables."""

_TYPES = {"integer": "bigint", "flag": "tinyint", "float": "double"}

_NAME = re.compile(r"facefog_\w+")
_CATALOGUE = re.compile(r"^\s*show\b|information_schema|duckdb_|pg_catalog|sqlite_master", re.IGNORECASE)
"""A question about which tables there are."""

_GLOB = frozenset("*?[]{}")
"""Characters that DuckDB reads as a pattern in the path of a file."""


class Duck:
    """An in-memory DuckDB over one audit; see ``query.Engine``. ``ledger``: what it was opened with.

    A table or view is defined when a question first names it, because defining one opens every part that it reads.
    """

    def __init__(
        self, connection: DuckDBPyConnection, ledger: Ledger, files: Mapping[str, str], views: Mapping[str, str],
        timeout_s: float,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.ledger = ledger
        self._files = files
        self._undefined = dict(views)
        self._timeout_s = timeout_s

    def stream(self, sql: str, params: Mapping[str, Any] | None = None) -> Stream:
        """See ``query.Engine``."""
        text, values = bind(one_statement(sql), params or {}, DUCKDB)
        with self._faults(), stops(self.connection.interrupt, self._timeout_s):
            _refuse_all_but_select(self.connection, text)
            self._define(text)
            self.connection.execute(text, values)
            described = self.connection.description or []
            first = self.connection.fetchmany(CHUNK)
        return stream([column[0] for column in described], self._fetch(first))

    def ask(self, sql: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Answer:
        """See ``query.Engine``."""
        return self.stream(sql, params).answer(limit)

    def runs_with(self, column: str, value: str) -> list[tuple[str, int]]:
        """See ``query.Engine``. Three columns that every schema version has: half the time of the whole table's view."""
        paths = [self._files[key] for key in _part_keys(self.ledger, "image")]
        return runs_with(self, column, value, f"read_parquet({_list(paths)})") if paths else []

    def rows_of(self, part: str, runs: Sequence[tuple[str, int]]) -> str:
        """See ``query.Engine``. Files of other runs are not even opened; the text names only paths of the ledger."""
        found = [self.ledger.find(*run) for run in runs]
        keys = [run.parts[part].key for run in found if run is not None and part in run.parts]
        return f"({_select(table(f'facefog_{part}'), [self._files[key] for key in keys])})"

    def close(self) -> None:
        """See ``query.Engine``."""
        self.connection.close()

    def define_all(self) -> None:
        """Define every table and view, for those who use ``connection`` itself. Opens all parts. Raises LedgerError."""
        with self._faults():
            for name in list(self._undefined):
                self._define(name)

    def _define(self, text: str) -> None:
        names = set(_NAME.findall(text.lower()))
        if _CATALOGUE.search(text):
            names |= set(self._undefined)
        for name in sorted(names & set(self._undefined)):
            if (sql := self._undefined.pop(name, None)) is None:
                continue  # a view before it read this one
            try:
                self._define(sql)
                self.connection.execute(sql)
            except BaseException:
                self._undefined[name] = sql
                raise

    def _fetch(self, rows: list[Any]) -> Iterator[list[Any]]:
        while rows:
            yield rows
            with self._faults(), stops(self.connection.interrupt, self._timeout_s):
                rows = self.connection.fetchmany(CHUNK)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn DuckDB's errors into ours, without the paths that it quotes."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            broken = isinstance(error, duckdb.IOException | duckdb.InternalException | duckdb.FatalException)
            if broken or any(path in str(error) for path in self._files.values()):
                raise LedgerError(
                    "a part of this audit is missing or damaged; `facefog audit verify` names it"
                ) from None
            if isinstance(error, duckdb.PermissionException):
                raise refused("it reaches for a file, a network or a setting; only the audit can be read") from None
            raise refused(error) from None


def open_duck(audit: Objects, ledger: Ledger, timeout_s: float = TIMEOUT_S) -> Duck:
    """Tables ``facefog_*`` and views ``facefog_v_*`` over the parts that hold the rows now.

    Opens no part yet, but reads the run rows of runs that failed. Raises as the store does; LedgerError for such a row
    that cannot be read. ``connection`` of what it returns is a plain DuckDB connection.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config={"python_enable_replacements": "false", "temp_directory": ""})
    keys = {f"facefog_{name}": _part_keys(ledger, name) for name in PARTS}
    keys[EGRESS.name] = [key for key in audit.list("egress") if key.endswith(".parquet")]
    keys[SOURCE.name] = [key for key in audit.list("sources") if key.endswith(".parquet")]
    files = _paths(audit, [key for found in keys.values() for key in found])
    if any(path.startswith(SCHEME) for path in files.values()):
        connection.register_filesystem(AuditFiles(audit, set(files)))
    _close_doors(connection, list(files.values()))
    for name in TABLES:
        connection.execute(_empty(TABLES[name]))
    _fill(connection, RUN, _run_rows(audit, ledger))
    _fill(connection, ERASURE, erasure_rows(ledger.entries))
    views = {name: _create(TABLES[name], [files[key] for key in found]) for name, found in keys.items()}
    views |= {view.name: view.create_sql for view in VIEWS}
    return Duck(connection, ledger, files, views, timeout_s)


def _close_doors(connection: DuckDBPyConnection, paths: list[str]) -> None:
    """After this only the named files can be opened, and no setting can be changed any more."""
    connection.execute("set parquet_metadata_cache = true")
    connection.execute("set enable_progress_bar = false")  # it is drawn on standard output, among the rows
    connection.execute(f"set allowed_paths = {_list(paths)}")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def _refuse_all_but_select(connection: DuckDBPyConnection, text: str) -> None:
    import duckdb

    statements = connection.extract_statements(text)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise refused("only one statement that reads is answered")


def _part_keys(ledger: Ledger, name: str) -> list[str]:
    return [run.parts[name].key for run in ledger.runs if name in run.parts]


def _paths(audit: Objects, keys: Sequence[str]) -> dict[str, str]:
    """What DuckDB calls each part: a local path, or a name that ``AuditFiles`` reads."""
    paths = {}
    for key in keys:
        uri = audit.uri(key)  # also refuses a key that leaves the audit
        local = uri.removeprefix("file://")
        native = audit.local and not _GLOB & set(local)
        paths[key] = local if native else f"{SCHEME}://{key}"
    return paths


def _empty(described: Table) -> str:
    columns = ", ".join(f'"{c.name}" {_TYPES.get(c.type, "varchar")}' for c in described.columns)
    return f'create table "_{described.name}" ({columns})'


def _select(described: Table, paths: Sequence[str]) -> str:
    """Rows of some files with the columns and types of the table; a column that an older part lacks is NULL."""
    empty = f'select * from "_{described.name}"'
    if not paths:
        return empty
    return f"{empty} union all by name select * from read_parquet({_list(paths)}, union_by_name = true)"


def _create(described: Table, paths: Sequence[str]) -> str:
    columns = ", ".join(f'q."{name}"' for name in described.column_names)
    rows = f"select {columns} from ({_select(described, paths)}) q"
    if described is SOURCE:  # several plans list a source; SQL holds the newest
        newest = "row_number() over (partition by source_ref order by expires_at desc)"
        rows = f"select {columns} from (select *, {newest} as place from ({rows})) q where q.place = 1"
    return f"create view {described.name} as {rows}"


def _fill(connection: DuckDBPyConnection, described: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """A small table, from rows that are in memory."""
    from airflow_facefog.audit.parquet import to_arrow

    try:
        found = to_arrow(described.name, rows)
    except ValueError:
        raise LedgerError(
            f"a row of {described.name} in the ledger is not what it should be; restore the audit"
        ) from None
    connection.register("_rows", found)
    connection.execute(f'insert into "_{described.name}" select * from _rows')
    connection.unregister("_rows")
    connection.execute(f'create view {described.name} as select * from "_{described.name}"')


def _run_rows(audit: Objects, ledger: Ledger) -> list[dict[str, Any]]:
    """Rows of sealed runs from their manifests, and those of runs that failed."""
    rows = [*(run_row(audit, run) for run in ledger.runs), *failed_rows(audit)]
    return [{name: row.get(name) for name in RUN.column_names} for row in rows]


def _list(paths: Sequence[str]) -> str:
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"
