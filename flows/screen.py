"""Screen output of a flow: one line per stage, a closing table, where to look next."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows import temporary_server
from mlops.base.environment import without_credentials
from mlops.base.errors import UserError
from mlops.contract import paths
from mlops.contract.result import Result, Tuned
from mlops.data.featurize import Featurized
from mlops.data.ingest import Ingested
from mlops.evaluation.evaluate import REPORT, Evaluated
from mlops.pipeline import servers, stage
from mlops.pipeline.lines import screen_line
from mlops.pipeline.reproduction import Reproduced, StageFailed
from mlops.registry.register import Registered
from mlops.training.train import Trained

LOG = Path("logs/prefect.log")
# How Prefect's error begins when its server can't be reached.
UNREACHED = "Failed to reach API at"


RESULTS: dict[str, tuple[type[Result], Path]] = {
    "ingest": (Ingested, paths.RAW),
    "featurize": (Featurized, paths.FEATURES),
    "tune": (Tuned, paths.SEARCH),
    "train": (Trained, paths.BUNDLE),
    "evaluate": (Evaluated, paths.EVIDENCE),
}


def shown(reproduced: Reproduced) -> Reproduced:
    """Print a stage's line, unless the stage ran and so printed it itself."""
    stage, how = reproduced.stage, reproduced.how
    if how != "run":
        kind, folder = RESULTS[stage]
        print(screen_line(stage, kind.load(folder).model_dump(), reproduced.seconds, how))
    return reproduced


def summary(registered: Registered | None) -> str:
    """The run's outcome as a Markdown table, for the screen and for a Prefect artifact."""
    evaluated = Evaluated.load(paths.EVIDENCE)
    trained = Trained.load(paths.BUNDLE)
    version = f"{registered.model}, version {registered.version}" if registered else "none"
    bounds = evaluated.few or f"{evaluated.low:.4f} to {evaluated.high:.4f}"
    interval = f"{evaluated.value:.4f} ({bounds})"
    return _markdown(
        {
            "": "",
            "registered": version,
            "bundle": f"{trained.digest[:12]} ({trained.family})",
            f"holdout {evaluated.metric}": interval,
            **{f"{name}": f"{value:.4f}" for name, value in evaluated.baselines.items()},
        }
    )


def _markdown(rows: dict[str, str]) -> str:
    """An aligned Markdown table of two columns, the first row its head."""
    name_width, value_width = (max(map(len, texts)) for texts in (rows, rows.values()))
    lines = [f"| {name:<{name_width}} | {value:<{value_width}} |" for name, value in rows.items()]
    rule = f"|{'-' * (name_width + 2)}|{'-' * (value_width + 2)}|"
    return "\n".join([lines[0], rule, *lines[1:]])


def run(flow: Callable[[], Any], summarized: bool = True) -> None:
    """Run a flow as a command: its own lines on the screen, Prefect's in the log, an exit code.

    With `summarized` it ends with the run's outcome as a table.
    """
    _log_to_file()

    def command() -> None:
        # Heartbeats are for a server that stays; with one of its own they cost a second of waiting.
        beats = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None} if temporary_server.address else {}
        with temporary_settings(beats):
            registered = _run(flow)
        if not summarized:
            return
        print(f"\n{summary(registered)}\n")
        print(_where_next(time.time() - psutil.Process().create_time()))

    # On SIGTERM a flow stops its stage and cleans up after it, as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(stage.guarded(command))


def _run(flow: Callable[[], Any]) -> Any:
    """Run the flow; exit with the code of a failed stage, which has printed the reason."""
    try:
        return flow()
    except StageFailed as failure:
        sys.exit(failure.exit_code)
    except RuntimeError as error:
        if not str(error).startswith(UNREACHED):
            raise
        raise UserError(f"PREFECT_API_URL: {without_credentials(str(error))}") from None


def _log_to_file() -> None:
    """Send Prefect's log lines to a file; the screen is for the stages."""
    LOG.parent.mkdir(exist_ok=True)
    handler = logging.FileHandler(LOG)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.getLogger().handlers = [handler]


def _where_next(seconds: float) -> str:
    running = servers.running()
    lines = [f"done in {seconds:.0f} s; the report: {paths.EVIDENCE / REPORT}"]
    if running:
        lines += [f"{name}: {url}" for name, url in running.items()]
    elif temporary_server.address:
        lines.append(
            "a temporary Prefect server was started for this run; `make up` keeps one running, "
            "with the MLflow and Prefect pages, and saves its start-up time at every run"
        )
    return "\n".join(lines)
