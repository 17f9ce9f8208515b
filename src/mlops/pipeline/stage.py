"""Run one stage as a command: parameters in, one line on the screen, a proper exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from mlops.base.environment import reach_loopback
from mlops.base.errors import BUG, MENDABLE, Refused, UserError, one_line
from mlops.contract import params
from mlops.contract.params import Params
from mlops.contract.paths import LOG, not_found
from mlops.contract.result import Result
from mlops.contract.stages import MADE_BY_DVC
from mlops.pipeline import dependencies, tracking_server, workspace
from mlops.pipeline.lines import screen_line

P = TypeVar("P", bound=Params)


def main(name: str, run: Callable[[P, Path], Result], kind: type[P]) -> None:
    """Run one stage in the current folder, print its line, log that it ran, and exit.

    `kind` is the part of the parameters that the stage reads.
    """
    start = time.time()

    def command() -> None:
        root, recorded = Path(), name in MADE_BY_DVC
        dependencies.require_own_code(root)
        before = dependencies.inputs(name, root) if recorded else {}
        settings = params.load(kind)
        # Names that the registry refuses at the end are refused before the first stage.
        tracking_server.experiment_name(settings.model, root)
        with workspace.begun(root, [name]):
            result = run(settings, root)
        if recorded:
            dependencies.require_declared(name, settings.project, root)
            dependencies.require_unmoved(name, before, root)
        print(screen_line(name, result.model_dump(), time.time() - start, "run"), flush=True)

    code = guarded(command)
    _log_run(name, start, code)
    sys.exit(code)


def begin() -> None:
    """Prepare a process, before anything heavy is imported; `guarded` calls it.

    What DVC starts ends with DVC. No proxy stands before this machine's own servers. Libraries'
    warnings are for their callers, not for users, who can turn them on (`python -W`,
    `PYTHONWARNINGS`).
    """
    reach_loopback()
    if "DVC_STAGE" in os.environ:
        end_with_parent()
    if not sys.warnoptions:
        # First of all: the filters are not safe against another thread's import.
        warnings.simplefilter("ignore")


def end_with_parent() -> None:
    """Stop this process when the one that started it has ended: what it makes is lost.

    That may have been before this was called: DVC and the flow are Python, an init process is not.
    """
    import psutil

    parent, program = os.getppid(), ""
    with suppress(psutil.Error):
        program = Path(psutil.Process(parent).exe()).name
    is_dvc = bool(re.search("python|dvc", program, re.IGNORECASE))

    def watch() -> None:
        while is_dvc and os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _log_run(stage: str, started: float, exit_code: int) -> None:
    """Append an execution to the log of stages that ran; restored ones are not in it."""
    seconds = time.time() - started
    ran = {"stage": stage, "started": started, "seconds": seconds, "exit_code": exit_code}
    # A log that can't be written, as on a full disk, must not hide how the stage ended.
    with suppress(OSError):
        LOG.parent.mkdir(exist_ok=True)
        with LOG.open("a") as file:
            file.write(json.dumps(ran) + "\n")


def exit_codes_since(moment: float) -> dict[str, int]:
    """The exit codes of the stages that started at `moment` (seconds since 1970) or later."""
    lines = LOG.read_text().splitlines() if LOG.exists() else []
    runs = map(json.loads, lines)
    return {ran["stage"]: ran["exit_code"] for ran in runs if ran["started"] >= moment}


def guarded(command: Callable[[], None]) -> int:
    """Run a command; print what went wrong in one line and return the exit code."""
    begin()
    try:
        command()
    except (UserError, Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; earlier outputs are untouched", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {_system_error(error)}", file=sys.stderr)
        return MENDABLE
    except Exception as error:
        # Libraries in C++ raise no MemoryError.
        if isinstance(error, MemoryError) or re.search("bad_alloc|Out of Memory", str(error)):
            print(f"error: not enough memory: {one_line(error)}", file=sys.stderr)
            return MENDABLE
        traceback.print_exc()
        return BUG
    return 0


def _system_error(error: OSError) -> str:
    """An error of the operating system in one line; Arrow's have a number but no file."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return not_found(Path(error.filename))
    reason = os.strerror(error.errno) if error.errno else one_line(error)
    return f"{error.filename or 'writing'}: {reason}"
