"""Where raw tables come from: one file per kind of source, each with one `read`.

`read(location, names)` gives the raw tables as data frames, by name; `location` is
`data.location` of `params.yaml`, `names` are the tables of the project's `tables.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mlops.contract import extensions

if TYPE_CHECKING:
    import pandas as pd

    Read = Callable[[str, Iterable[str]], dict[str, pd.DataFrame]]


def reader(source: str) -> Read:
    """The `read` of the source that `data.source` names. Raises UserError for an unknown one."""
    module = extensions.resolve("params.yaml: data.source", source, __name__, ("read",))
    read: Read = module.read
    return read
