"""The one line that each stage leaves on the screen.

It is made here, and not by the stages, so that other wording makes no stage stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Fields = Mapping[str, Any]


def screen_line(stage: str, result: Fields, seconds: float, how: str) -> str:
    """Describe a stage's run; `result` are the fields of its Result, `how` it got its output."""
    return f"{stage:<10} {how:<9} {seconds:6.1f} s   {LINES[stage](result)}"


def _ingest(result: Fields) -> str:
    rows = result["rows"]
    largest = max(rows, key=lambda name: rows[name])
    span = f"{result['since']} to {result['until']}"
    return f"{len(rows)} tables, {rows[largest]:,} {largest}, {span}"


def _featurize(result: Fields) -> str:
    dropped = ", ".join(f"{rows:,} {why}" for why, rows in result["dropped"].items() if rows)
    training, holdout = result["rows"]["training"], result["rows"]["holdout"]
    return (
        f"{result['features']} features, {training:,} rows to train on, "
        f"{holdout:,} held out; left out: {dropped or 'none'}"
    )


def _tune(result: Fields) -> str:
    return (
        f"{result['family']} won {result['trials']} trials ({result['given_up']} given up early), "
        f"validation {result['loss_name']} {result['loss']:.4f}"
    )


def _train(result: Fields) -> str:
    return (
        f"bundle {result['digest'][:12]}: {result['family']} on {result['rows']:,} rows, "
        f"{result['bytes'] / 1e6:.1f} MB, ONNX within {result['parity']:.0e} of the native model"
    )


def _evaluate(result: Fields) -> str:
    baselines = ", ".join(f"{name} {value:.3f}" for name, value in result["baselines"].items())
    interval = f"{result['value']:.4f} ({result['low']:.4f} to {result['high']:.4f})"
    return f"holdout {result['metric']} {interval} on {result['rows']:,} rows; {baselines}"


def _register(result: Fields) -> str:
    how = "registered" if result["new"] else "registered before"
    return f"{result['model']} version {result['version']} ({how}), alias {result['alias']}"


LINES: dict[str, Callable[[Fields], str]] = {
    "ingest": _ingest,
    "featurize": _featurize,
    "tune": _tune,
    "train": _train,
    "evaluate": _evaluate,
    "register": _register,
}
