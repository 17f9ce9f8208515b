"""Check that a stage ran this folder's code, that `dvc.yaml` names all of it, and that it stays."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlops
from mlops.base import documents
from mlops.base.errors import UserError
from mlops.contract import params, stages

SOURCE = Path("src")
# It runs stages and decides nothing of what they make: a change here makes no output stale.
RUNNER = "src/mlops/pipeline"


def require_own_code(root: Path) -> None:
    """Raise UserError when this process runs the code of another folder than `root`.

    An installed package may lie in the folder from which this one, or its `.venv`, was copied.
    """
    running, expected = Path(mlops.__file__), root / SOURCE / "mlops/__init__.py"
    if expected.exists() and not running.samefile(expected):
        raise UserError(
            f"{running.parent}: found the code of another folder, expected {expected.parent}; "
            "`make setup`, or set PYTHONPATH=src, as dvc.yaml does"
        )


def require_present(project: str, root: Path) -> None:
    """Raise UserError for a stage that is missing, or a dependency that nothing makes."""
    listed = documents.read(root / stages.PIPELINE, "the pipeline's stages").get("stages", {})
    # An output may have options, as `path: {cache: false}`.
    outputs = [path for stage in listed.values() for out in stage.get("outs", ())
               for path in ([out] if isinstance(out, str) else out)]  # fmt: skip
    for stage in stages.MADE_BY_DVC:
        for path in stages.dependencies(stage, project, root):
            if not (_is_within(path, outputs) or (root / path).exists()):
                raise UserError(f"{stages.PIPELINE}: stages.{stage}.deps: {path}: not found")


def require_declared(stage: str, project: str, root: Path) -> None:
    """Raise UserError when the stage has loaded a file that is not among its dependencies.

    DVC would call the stage unchanged after an edit of such a file.
    """
    declared = stages.dependencies(stage, project, root)
    missing = sorted(file for file in _loaded(root) if not _is_within(file, declared))
    if missing:
        more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
        line = f"- {missing[0].replace(f'src/{project}/', 'src/${project}/')}"
        raise UserError(
            f"{missing[0]}: {stage} loads it, but {stages.PIPELINE} does not name it{more}; "
            f"add the line '{line}' to stages.{stage}.deps"
        )


def inputs(stage: str, root: Path) -> dict[str, object]:
    """The state of what `dvc.yaml` names for a stage, by file and by section of `params.yaml`."""
    file = root / params.FILE
    content = documents.read(file, "the pipeline's parameters") if file.exists() else {}
    listed = documents.read(root / stages.PIPELINE, "the pipeline's stages")["stages"][stage]
    # Keys of other files are the source's state, which ingest writes as it has read it.
    keys = [key.partition(".")[0] for key in listed.get("params", ()) if isinstance(key, str)]
    state: dict[str, object] = {f"{params.FILE}: {key}": content.get(key) for key in keys}
    for place in stages.dependencies(stage, str(content.get("project")), root):
        for path in (root / place, *(root / place).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found = path.stat()
                state[str(path.relative_to(root))] = found.st_ino, found.st_size, found.st_mtime_ns
    return state


def require_unmoved(stage: str, before: Mapping[str, object], root: Path) -> None:
    """Raise UserError when an input of the stage is no longer what `inputs` found."""
    after = inputs(stage, root)
    moved = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    if moved:
        raise UserError(f"{stage}: {moved[0]} changed while the stage ran; run again")


def _loaded(root: Path) -> Iterator[str]:
    """The modules of this process that lie in the repository, as `dvc.yaml` names files."""
    source = (root / SOURCE).absolute()
    for file in [getattr(module, "__file__", None) for module in list(sys.modules.values())]:
        if file and Path(file).is_relative_to(source):
            path = Path(file).relative_to(source.parent).as_posix()
            if not _is_within(path, [RUNNER]):
                yield path


def _is_within(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)
