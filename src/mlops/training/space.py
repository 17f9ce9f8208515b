"""The search space that `models.py` declares: checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from mlops.base.errors import UserError, nearest, one_line
from mlops.contract.project import Models
from mlops.training import families, starting

Candidate = dict[str, Any]
Space = dict[str, dict[str, Any]]


def searched(
    models: Models, wanted: Iterable[str], rows: int = 1000
) -> tuple[Space, list[Candidate]]:
    """The space of the wanted families, and their hand-set candidates; of a project that declares
    no space, those that fit a number of training rows.

    Raises UserError for a family or hyperparameter that is not known, or a label used twice.
    """
    declared = ", ".join(models.space) or "none"
    if not models.space:
        models = Models(
            models.task, starting.spaces(models.task, rows), starting.first(models.task, rows)
        )
    for name in wanted:
        families.family(name)
        if name not in models.space:
            raise UserError(
                f"models.py: SPACE: found {declared}, expected {name!r} too, which "
                "params.yaml names (tune.families); add it to SPACE, or leave it out there"
            )
    space = {name: models.space[name] for name in wanted}
    used = {"family"}
    for name, own in space.items():
        for key, value in own.items():
            found = label(value, f"models.py: SPACE: {name}.{key}")
            if found in used:
                raise UserError(
                    f"models.py: SPACE: {name}.{key}: found the label {found!r} a second time, "
                    f"expected '{name}.{key}'"
                )
            used |= {found} if found else set()
        _require_arguments(name, own, models.task)
    first = [completed(candidate, models.space) for candidate in models.first]
    return space, [candidate for candidate in first if candidate["family"] in space]


def label(value: Any, place: str = "models.py: SPACE") -> str | None:
    """Hyperopt's label of a value that is searched, None for a constant. Raises UserError."""
    if isinstance(value, (bool, int, float, str, type(None))):
        return None
    from hyperopt.pyll.base import Apply, dfs

    drawn = dfs(value) if isinstance(value, Apply) else []
    labels = [str(node.pos_args[0].obj) for node in drawn if node.name == "hyperopt_param"]
    if len(labels) != 1:
        raise UserError(f"{place}: found {one_line(value)}, expected a constant or one of hp.*")
    return labels[0]


def completed(candidate: Candidate, space: Space) -> Candidate:
    """A hand-set candidate with what its family's space leaves constant. Raises UserError."""
    name = candidate.get("family")
    if name not in space:
        known = nearest(str(name), space) or f"; known: {', '.join(space)}"
        raise UserError(f"models.py: FIRST: family: found {name!r}, expected one of SPACE{known}")
    own = space[name]
    for key, value in candidate.items():
        place = f"models.py: FIRST: {name}.{key}"
        if key != "family" and key not in own:
            raise UserError(f"{place}: not in SPACE{nearest(key, own)}")
        options = choices(own.get(key))
        if options and value not in options:
            raise UserError(f"{place}: found {value!r}, expected one of {options}")
    return {key: value for key, value in own.items() if label(value) is None} | candidate


def choices(value: Any) -> list[Any]:
    """The options of an `hp.choice`, of which Hyperopt keeps the number; of others none."""
    if getattr(value, "name", "") != "switch":
        return []
    return [getattr(option, "obj", None) for option in value.pos_args[1:]]


def _require_arguments(name: str, own: dict[str, Any], task: Any) -> None:
    """Raise UserError for a hyperparameter that the family's estimator does not take."""
    import numpy as np
    from hyperopt.pyll.stochastic import sample

    family, known = families.family(name), dict[str, Any]()
    if "." not in name:
        # A module of the user's own may have hyperparameters of its own.
        with suppress(Exception):
            known = family.build(task, {}, 0, 1).get_params()
    for key in own:
        if known and key not in known:
            raise UserError(
                f"models.py: SPACE: {name}.{key}: not an argument of the {task} estimator"
                f"{nearest(key, known)}"
            )
    try:
        estimator = family.build(task, sample(own, np.random.default_rng(0)), 0, 1)
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"models.py: SPACE: {name}: {reason}") from error
    if "." in name:
        from mlops.training import onnx

        onnx.require_converter(name, estimator, task)
