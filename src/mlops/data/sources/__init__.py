"""Where raw tables come from: one file per kind of source, each with `read` and `fingerprint`.

`read(location, names)` gives the raw tables as data frames, by name; `location` is
`data.location` of `params.yaml`, `names` are the tables of the project's `tables.py`.
`fingerprint(location, names)` names what `read` would read, and the state that each is in: any
text that is another one when the content is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from mlops.base.errors import UserError
from mlops.contract import extensions

if TYPE_CHECKING:
    import pandas as pd


class Unreachable(UserError):
    """The place that the source reads is not there, or does not answer."""


class Source(NamedTuple):
    """The two functions of a source."""

    read: Callable[[str, Iterable[str]], dict[str, pd.DataFrame]]
    fingerprint: Callable[[str, Iterable[str]], dict[str, str]]


def source(name: str) -> Source:
    """The source that `data.source` names. Raises UserError for an unknown one."""
    attributes = Source._fields
    module = extensions.resolve("params.yaml: data.source", name, __name__, attributes)
    return Source(*(getattr(module, attribute) for attribute in attributes))
