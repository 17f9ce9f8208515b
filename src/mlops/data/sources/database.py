"""Connections to the databases that give and take Arrow: PostgreSQL, SQL Server and Azure SQL."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, listed, nearest, one_line
from mlops.data.sources import Unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

LOGIN_SECONDS = 10
# A peer that is gone is noticed within a minute.
POSTGRESQL = {
    "connect_timeout": str(LOGIN_SECONDS), "keepalives_idle": "30", "keepalives_interval": "10",
    "keepalives_count": "3", "tcp_user_timeout": "60000",
}  # fmt: skip


@dataclass(frozen=True)
class Database:
    """What differs between databases. Statements are SQLAlchemy's, connections of the DB API.

    `snapshot` begins a transaction in which all reads see one state, and in which text is the
    same whoever reads.
    """

    place: str
    url: sa.URL
    schema: str
    dialect: Any
    connect: Callable[[], Any]
    errors: tuple[type[Exception], ...]
    away: tuple[type[Exception], ...]
    snapshot: tuple[str, ...]
    stream: Callable[[Any], pa.RecordBatchReader]
    # PostgreSQL streams by COPY, which takes no parameters: SQLAlchemy writes the values.
    stream_literally: bool

    def execute(self, connection: Any, statement: Any, *, literal: bool = False) -> Any:
        """A cursor on which the statement has been executed with its bound parameters."""
        options = {"literal_binds": True} if literal else {"render_postcompile": True}
        compiled = statement.compile(dialect=self.dialect, compile_kwargs=options)
        values = [compiled.params[name] for name in compiled.positiontup or ()]
        cursor = connection.cursor()
        cursor.execute(str(compiled), *([values] if values else []))
        return cursor

    def rows(self, connection: Any, statement: Any) -> list[Any]:
        """All rows of a small result."""
        with closing(self.execute(connection, statement)) as cursor:
            return list(cursor.fetchall())

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A connection in a snapshot; errors of the database are one line without the password."""
        with self.explained(), closing(self.begin()) as connection:
            yield connection

    def begin(self) -> Any:
        """A connection in a snapshot."""
        connection = self.connect()
        for statement in self.snapshot:
            with closing(connection.cursor()) as cursor:
                cursor.execute(statement)
        return connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what the database refuses as UserError, and Unreachable where it is away."""
        try:
            yield
        except self.errors as error:
            text = str(error).partition("Query was:")[0].partition("Attempted credentials")[0]
            if self.url.password:
                text = text.replace(str(self.url.password), "***")
            kind = Unreachable if isinstance(error, self.away) else UserError
            raise kind(f"{self.place}: {one_line(text)}") from None

    def catalog(self) -> sa.Select[Any]:
        """Tables, columns, types, precisions and scales, as both databases list them."""
        import sqlalchemy as sa

        # Where names have a case in SQL Server, these are in capitals.
        form = str.upper if self.dialect.name == "mssql" else str.lower
        names = ("table_name", "column_name", "data_type", "numeric_precision", "numeric_scale")
        shown: list[Any] = [sa.column(form(name)) for name in names]
        where = sa.column(form("table_schema")) == self.schema
        source = sa.table(form("columns"), schema=form("information_schema"))
        order: Any = (shown[0], sa.column(form("ordinal_position")))
        return sa.select(*shown).select_from(source).where(where).order_by(*order)

    def columns_of(self, connection: Any, name: str) -> dict[str, Any]:
        """The columns' types of a table or view. Raises UserError with the nearest name."""
        tables: dict[str, dict[str, Any]] = {}
        for table, column, *kind in self.rows(connection, self.catalog()):
            tables.setdefault(table, {})[column] = tuple(kind)
        if name not in tables:
            hint = nearest(name, tables) or f"; it has {listed(sorted(tables)) or 'none'}"
            raise UserError(
                f"{self.place}: no table {name!r} that this login may read in schema "
                f"{self.schema!r}{hint}"
            )
        return tables[name]


def database(location: str, setting: str = "data.location") -> Database:
    """The database of a setting: the name of an environment variable, or `NAME/schema`.

    The variable holds an SQLAlchemy URL, such as `postgresql://user@host/name`.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    variable, _, schema = location.partition("/")
    if not variable.isidentifier():
        raise UserError(
            f"params.yaml: {setting}: expected the name of an environment variable that holds an "
            "SQLAlchemy URL, such as WAREHOUSE or WAREHOUSE/schema; found something else"
        )
    if not os.environ.get(variable):
        raise Unreachable(f"params.yaml: {setting}: environment variable {variable} is not set")
    try:
        url = make_url(os.environ[variable])
    except (ArgumentError, ValueError):
        raise UserError(f"{variable}: expected an SQLAlchemy URL; found another text") from None
    makers = {"postgresql": _postgresql, "mssql": _sql_server}
    if url.get_backend_name() not in makers:
        known = ", ".join(makers)
        raise UserError(f"{variable}: found dialect {url.get_backend_name()!r}; known: {known}")
    return makers[url.get_backend_name()](variable, url, schema)


def _postgresql(place: str, url: sa.URL, schema: str) -> Database:
    import adbc_driver_manager
    from adbc_driver_postgresql import dbapi
    from sqlalchemy.dialects import postgresql

    missing = {key: value for key, value in POSTGRESQL.items() if key not in url.query}
    uri = url.set(drivername="postgresql").update_query_dict(missing)
    settings = ("TimeZone = 'UTC'", "DateStyle = 'ISO'", "IntervalStyle = 'postgres'",
                "extra_float_digits = 1", "bytea_output = 'hex'", "lc_monetary = 'C'")  # fmt: skip
    begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
    dialect: Any = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    return Database(
        place, url, schema or "public", dialect,
        lambda: dbapi.connect(uri.render_as_string(hide_password=False)),
        # Arrow's stream raises OSError.
        errors=(adbc_driver_manager.Error, OSError),
        away=(adbc_driver_manager.OperationalError, OSError),
        snapshot=(begin, *(f"SET LOCAL {setting}" for setting in settings)),
        stream=lambda cursor: cursor.fetch_record_batch(),
        stream_literally=True,
    )  # fmt: skip


def _sql_server(place: str, url: sa.URL, schema: str) -> Database:
    import mssql_python
    from sqlalchemy.dialects import mssql

    # It says on standard error what `explained` says.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    dialect: Any = mssql.dialect(paramstyle="qmark")  # type: ignore[no-untyped-call]
    login: dict[str, Any] = {"autocommit": True, "timeout": LOGIN_SECONDS}
    return Database(
        place, url, schema or "dbo", dialect,
        partial(mssql_python.connect, connection_string(url), **login),
        errors=(mssql_python.Error, mssql_python.ConnectionStringParseError, OSError),
        away=(mssql_python.OperationalError, mssql_python.InterfaceError, OSError),
        snapshot=("SET TRANSACTION ISOLATION LEVEL SNAPSHOT", "BEGIN TRANSACTION"),
        stream=lambda cursor: cursor.arrow_reader(65_536),
        stream_literally=False,
    )  # fmt: skip


def connection_string(url: sa.URL) -> str:
    """The driver's own form of a URL; without a user, Azure's default credentials log in."""
    server = f"{url.host or ''}{f',{url.port}' if url.port else ''}"
    parts = {"Server": server, "Database": url.database, "UID": url.username, "PWD": url.password}
    if not url.username and "Authentication" not in url.query:
        parts["Authentication"] = "ActiveDirectoryDefault"
    # Options of SQLAlchemy's other drivers.
    parts |= {key: str(value) for key, value in url.query.items() if key != "driver"}
    return "".join(
        f"{key}={{{str(value).replace('}', '}}')}}};" for key, value in parts.items() if value
    )
