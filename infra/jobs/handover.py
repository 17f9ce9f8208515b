"""What the stages pass on to each other, for the jobs that are made of them."""

from __future__ import annotations

from pathlib import Path

from mlops.base import documents
from mlops.base.errors import UserError
from mlops.contract import stages


def passed_on(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    """For each stage those that it needs, and the files and folders that it makes.

    Raises UserError for a stage that dvc.yaml gives nothing to read or to make.
    """
    listed = documents.read(root / stages.PIPELINE, "the pipeline's stages").get("stages") or {}
    for name in stages.MADE_BY_DVC:
        for key in ("deps", "outs"):
            if not (listed.get(name) or {}).get(key):
                raise UserError(f"{stages.PIPELINE}: stages: {name}: {key}: missing")
    # The path of an output that has options is the one key of a dictionary.
    makes = {name: [out if isinstance(out, str) else next(iter(out))
                    for out in listed[name]["outs"]]
             for name in stages.MADE_BY_DVC}  # fmt: skip
    needs = {name: [other for other, places in makes.items()
                    if any(f"{path}/".startswith(f"{place}/") for path in listed[name]["deps"]
                           for place in places)]
             for name in stages.MADE_BY_DVC}  # fmt: skip
    # What DVC does not know of registers what the last stage judged, and what that one read.
    last = stages.MADE_BY_DVC[-1]
    return {name: (needs.get(name, [*needs[last], last]), makes.get(name, []))
            for name in stages.MODULES}  # fmt: skip
