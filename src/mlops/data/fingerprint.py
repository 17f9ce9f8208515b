"""Fingerprint: the state of what the source reads, a parameter of ingest.

DVC cannot know of it, so this runs before every ingest; where the state is another one, ingest is
stale. It runs before DVC removes the earlier output, too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlops.base import documents
from mlops.base.files import write_json
from mlops.contract import params, project
from mlops.contract.paths import RAW
from mlops.contract.stages import MADE_BY_DVC, RECORD
from mlops.data import tables
from mlops.data.params import Params
from mlops.data.sources import Unreachable, source
from mlops.pipeline import stage, workspace

FILE = RAW.parent / "fingerprint.json"


def of_source(params: Params) -> dict[str, str]:
    """What the source reads, and the state of each. Raises UserError when it can't be reached."""
    queries = tables.queries(project.tables(params.project), params.data)
    own = source(params.data.source)
    return own.fingerprint(params.data.location, list(queries.values()))


def run(params: Params, root: Path) -> dict[str, str]:
    """Write the fingerprint. Raises UserError when the source can't be read."""
    state = of_source(params)
    _write(root, state)
    return state


def _write(root: Path, state: dict[str, str]) -> None:
    (root / FILE).parent.mkdir(parents=True, exist_ok=True)
    write_json(root / FILE, {"source": state})


def recorded(root: Path) -> dict[str, str] | None:
    """The state that `dvc.lock` has, unless another source was read then."""
    path = root / RECORD
    if not path.is_file():
        return None
    stages = documents.read(path, "what DVC recorded").get("stages", {})
    known = stages.get("ingest", {}).get("params", {})
    settings = documents.read(root / params.FILE, "settings")
    if known.get(str(params.FILE), {}).get("data") != settings["data"]:
        return None
    state: dict[str, str] | None = known.get(FILE.as_posix(), {}).get("source")
    return state


def main() -> int:
    """Write the source's fingerprint, `dvc.lock`'s where that is away; gives the exit code."""

    def command() -> None:
        settings = params.load(Params)
        try:
            # DVC may remove any of the outputs next.
            with workspace.begun(Path(), MADE_BY_DVC):
                run(settings, Path())
        except Unreachable as error:
            state = recorded(Path())
            if state is None:
                raise
            print(f"{error}: its state is taken from {RECORD}", file=sys.stderr)
            _write(Path(), state)

    return stage.guarded(command)


if __name__ == "__main__":
    raise SystemExit(main())
