"""The one line that each stage leaves on the screen.

It is made here, and not by the stages, so that other wording makes no stage stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlops.base.errors import listed

# Of rows with days, where it is not declared what of them is known only later.
NOTHING_COMPARED = "no outcomes in tables.py: nothing is compared with what was known on a day"


def screen_line(stage: str, result: Mapping[str, Any], seconds: float, how: str) -> str:
    """Describe a stage's run; `result` are the fields of its Result, `how` it got its output."""
    return f"{stage:<10} {how:<9} {seconds:6.1f} s   {_outcome(stage, result)}"


def _listed(what: str, names: Sequence[str]) -> str:
    """What some names are, and the first of them; nothing when there are none."""
    return f"{what}{listed(names)}" if names else ""


def _outcome(stage: str, result: Mapping[str, Any]) -> str:
    match stage:
        case "ingest":
            rows = result["rows"]
            largest = max(rows, key=lambda name: rows[name])
            since, tables = result["since"], "1 table" if len(rows) == 1 else f"{len(rows)} tables"
            span = f", {since} to {result['until']}" if since else ""
            unknown = _listed("; in no schema, left out: ", result["unknown"])
            return f"{tables}, {rows[largest]:,} {largest}{span}{unknown}"
        case "featurize":
            dropped = ", ".join(
                f"{rows:,} {why}" for why, rows in result["dropped"].items() if rows
            )
            rounded = ", ".join(
                f"{name} ({kept:,} of {values:,} values)"
                for name, (kept, values) in result["rounded"].items()
            )
            note = f"; float32 keeps less of: {rounded}" if rounded else ""
            is_compared = result["days_compared"] or not result["days"]
            empty = [name for name, share in result["null_share"].items() if share == 1]
            return (
                f"{result['features']} features, {result['rows']['training']:,} rows to train on, "
                f"{result['rows']['holdout']:,} held out; left out: {dropped or 'none'}{note}"
                f"{_listed('; tables not used: ', result['unused_tables'])}"
                f"{_listed('; without any value: ', empty)}"
                f"{'' if is_compared else f'; {NOTHING_COMPARED}'}"
            )
        case "tune":
            text = (
                "{family} won {trials} trials ({given_up} given up early), "
                "validation {loss_name} {loss:.4f}"
            )
            if result["no_better"]:
                text += "; {no_better} no better than a constant prediction ({constant_loss:.4f})"
            if result["sample"]:
                text += "; searched on {sample[0]:,} of {sample[1]:,} training rows"
        case "train":
            text = (
                "bundle {digest:.12}: {family} on {rows:,} rows, {megabytes:.1f} MB, "
                "ONNX within {parity:.0e} of the native model"
            )
            result = {**result, "megabytes": result["bytes"] / 1e6}
            if len(result["labels"]) == 2:
                text += f"; the positive class is {result['labels'][1]!r}"
        case "evaluate":
            pairs = (f"{name} {value:.3f}" for name, value in result["baselines"].items())
            text = (
                "holdout {metric} {value:.4f} ({low:.4f} to {high:.4f}) on {rows:,} rows; {pairs}"
            )
            result = {**result, "pairs": ", ".join(pairs)}
        case _:
            how = "registered" if result["new"] else "registered before"
            text = "{model} version {version} ({how}), alias {alias}"
            result = {**result, "how": how}
    return text.format_map(result)
