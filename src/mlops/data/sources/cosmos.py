"""Raw tables from Azure Cosmos DB for NoSQL: a container is a table, a document is a row."""

from __future__ import annotations

import binascii
import datetime as dt
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, listed, nearest, one_line
from mlops.data.sources import Query, Rows, Unreachable, no_versions

if TYPE_CHECKING:
    import pyarrow as pa

KEY = "AZURE_COSMOS_KEY"
# What the service adds to each document.
SYSTEM = {"_rid", "_self", "_etag", "_attachments", "_ts"}
PAGE = 1000
SAMPLE = 10
LIMITS: dict[str, Any] = {
    "connection_timeout": 5, "read_timeout": 30, "retry_total": 2, "retry_connect": 1
}  # fmt: skip


def read(location: str, query: Query) -> Rows:
    """Stream a container's documents, a page a batch, from `https://ACCOUNT.…/DATABASE`.

    The columns are those of the first pages, and any that was asked for and is in some document.
    A location may end in `?without=id`, where that is no column of the table. A value that a
    document lacks is missing. A query of Cosmos DB has no snapshot: what is changed while it is
    read may be old or new.
    """
    no_versions("cosmos", [query])
    with _explained(location, query.name):
        container, hidden = _container(location, query.name)
        sample = islice(_pages(container, "SELECT * FROM c", []), SAMPLE)
        found = {key: None for page in sample for row in page for key in row if key not in hidden}
        for name in query.columns or ():
            probe = f"SELECT TOP 1 VALUE 1 FROM c WHERE IS_DEFINED({_path(name)})"
            if name not in found and any(_pages(container, probe, [])):
                found[name] = None
    return Rows(tuple(found), _batches(container, location, query, list(found), hidden))


def fingerprint(location: str, queries: Sequence[Query]) -> dict[str, str]:
    """For each container, of the days asked for: documents, the last change, a sum of the changes.

    Times of changes have seconds: of two changes of a document in one second the later one is not
    seen. Raises UserError as `read` does.
    """
    no_versions("cosmos", queries)
    states = {}
    for query in queries:
        with _explained(location, query.name):
            container, _ = _container(location, query.name)
            where, values = _where(query)
            # A sum of whole times would lose digits beyond five million documents.
            count, last, total = (
                next((page[0] for page in _pages(container, text, values) if page), None)
                for what in ("COUNT(1)", "MAX(c._ts)", "SUM(c._ts % 1000003)")
                for text in [f"SELECT VALUE {what} FROM c{where}"]
            )
        states[query.name] = f"{count or 0} documents, last change {last}, sum {total}"
    return states


def _batches(
    container: Any, location: str, query: Query, known: list[str], hidden: set[str]
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    names = None if query.columns is None else [name for name in known if name in query.columns]
    fields = "*" if names is None else ", ".join(map(_path, names))
    where, values = _where(query)
    with _explained(location, query.name):
        for page in _pages(container, f"SELECT {fields} FROM c{where}", values):
            keys = names or [*known, *(key for row in page for key in row if key not in hidden)]
            columns = {key: _array([row.get(key) for row in page]) for key in keys}
            if page:
                yield pa.RecordBatch.from_pydict(columns)


def _where(query: Query) -> tuple[str, list[dict[str, Any]]]:
    """The days asked for, by a day in ISO text or by `_ts`; what is neither comes along."""
    limits = query.bounds(zoned=True)
    if query.day is None or not limits:
        return "", []
    path = _path(query.day)
    form: Any = _seconds if query.day == "_ts" else dt.date.isoformat
    others = ' OR NOT IS_STRING({0}) OR SUBSTRING({0}, 4, 1) != "-"' if query.day != "_ts" else ""
    terms = [f"{path} {op} @day{number}" for number, (op, _) in enumerate(limits)]
    values = [{"name": f"@day{n}", "value": form(day)} for n, (_, day) in enumerate(limits)]
    return f" WHERE ({' AND '.join(terms)}){others.format(path)}", values


def _seconds(day: dt.date) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())


def _path(name: str) -> str:
    return f"c[{json.dumps(name)}]"


def _array(values: list[Any]) -> pa.Array:
    """Truth values, numbers or text; text of JSON where they are objects or of several kinds."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds <= {int, float}:
        whole = kinds == {int} and all(abs(value or 0) < 2**63 for value in values)
        number = int if whole else float
        return pa.array([value if value is None else number(value) for value in values])
    if kinds in ({bool}, {str}):
        return pa.array(values)
    keep = (str, type(None))
    texts = [value if isinstance(value, keep) else json.dumps(value) for value in values]
    return pa.array(texts, pa.string())


def _pages(container: Any, text: str, values: list[dict[str, Any]]) -> Iterator[list[Any]]:
    pages = container.query_items(
        text, parameters=values, enable_cross_partition_query=True, max_item_count=PAGE
    ).by_page()
    return (list(page) for page in pages)


def _container(location: str, name: str) -> tuple[Any, set[str]]:
    """The container of a table's name, and the fields that are no columns."""
    from azure.cosmos import CosmosClient

    place, _, option = location.partition("?")
    account, _, database = place.rstrip("/").rpartition("/")
    known = account.startswith(("https://", "http://")) and "@" not in account
    if not known or option not in ("", "without=id"):
        raise UserError(
            "params.yaml: data.location: expected https://ACCOUNT.documents.azure.com/DATABASE "
            f"and the key in {KEY}; found another form"
        )
    # It says on standard error which region it gives up; the error says so too.
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    # An emulator names an address of its own.
    regions = account.startswith("https://")
    client = CosmosClient(account, _credential(), enable_endpoint_discovery=regions, **LIMITS)
    store = client.get_database_client(database)
    names = [each["id"] for each in store.list_containers()]
    if name not in names:
        hint = nearest(name, names) or f"; it has {listed(sorted(names)) or 'none'}"
        raise UserError(f"{location}: no container {name!r}{hint}")
    return store.get_container_client(name), SYSTEM | ({"id"} if option else set())


def _credential() -> Any:
    from azure.identity import DefaultAzureCredential

    return os.environ.get(KEY) or DefaultAzureCredential()


@contextmanager
def _explained(location: str, name: str) -> Iterator[None]:
    """Raise UserError for what the service refuses, Unreachable where it is away or no login."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except binascii.Error as error:
        raise UserError(f"{KEY}: expected a key in Base64: {error}") from None
    except AzureError as error:
        code = getattr(error, "status_code", None)
        text = one_line(str(error).partition("Attempted credentials")[0])
        if code == 404:
            raise UserError(f"{location}: no such database or container: {text}") from None
        kind = UserError if code == 400 else Unreachable
        raise kind(f"{location}: {name}: {text}") from None
