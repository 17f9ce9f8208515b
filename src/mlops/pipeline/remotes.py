"""DVC's remotes: what each is for, whether it answers, and which files could not be copied.

`publish` pushes to the default one. `releases` is what main's protected jobs write, `proposals`
what pull requests write; stages are restored from `proposals` only where it is the default, or
`release.trust` says so. What is fetched by digest, and verified, may come from any.

The clients of object stores retry for many minutes without a message when a store is away; DVC
logs that a file could not be copied, and goes on.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from logging.handlers import BufferingHandler
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from mlops.base.errors import UserError, one_line
from mlops.contract import params
from mlops.pipeline.params import Params

if TYPE_CHECKING:
    from dvc.repo import Repo

# A first answer may need a token from a command-line tool.
ANSWER_SECONDS = 30.0
RELEASES, PROPOSALS = "releases", "proposals"
_log = BufferingHandler(capacity=1_000_000)


def default(repo: Repo) -> str | None:
    """The name of the default remote; None where none is configured."""
    name: str | None = repo.config["core"].get("remote")
    return name


def every(repo: Repo) -> list[str]:
    """The names of all remotes, the default one first."""
    return sorted(repo.config["remote"], key=lambda name: name != default(repo))


def others(repo: Repo) -> list[str]:
    """The remotes beside the default one from which stages may be restored."""
    named = {RELEASES, PROPOSALS} & set(repo.config["remote"]) - {default(repo)}
    if PROPOSALS in named:
        trust = params.load(Params, Path(repo.root_dir)).release.trust
        named -= {PROPOSALS} if trust == "main" else set()
    return sorted(named)


def restore(repo: Repo, stage: str, name: str) -> None:
    """Bring a stage's output, for its inputs as they are, from a remote that has it."""
    from dvc.repo import Repo, lock_repo
    from dvc.stage.cache import RunCacheNotFoundError, RunCacheNotSupported

    # Another object: the stages of `repo` must not take what is here for what was recorded.
    missing = suppress(RunCacheNotFoundError, RunCacheNotSupported)
    with Repo(repo.root_dir, config={"core": {"remote": name}}) as other, lock_repo(other), missing:
        other.stage_cache.pull(None)
        (made,) = other.stage.collect(stage)
        other.stage_cache.restore(made, pull=True)


def require_answer(repo: Repo, name: str) -> None:
    """Raise UserError when a remote does not answer within `ANSWER_SECONDS`.

    An error is an answer too: the operation that follows reports it better.
    """
    request = Thread(target=_request, args=(repo, name), daemon=True)
    request.start()
    request.join(ANSWER_SECONDS)
    if request.is_alive():
        raise UserError(f"no answer within {ANSWER_SECONDS:.0f} s")


def begin_log() -> None:
    """Have DVC print nothing; `not_copied` reads what it logs from now on."""
    import dvc  # noqa: F401  # It sets its loggers up.

    _log.flush()
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_log], False
        logger.setLevel(logging.WARNING)


def not_copied() -> str:
    """The first reason for which DVC could not copy a file, in one line; "" without one."""
    for record in _log.buffer:
        if record.levelno >= logging.ERROR or "Missing cache files" in record.getMessage():
            return one_line(record.exc_info[1] if record.exc_info else record.getMessage())
    return ""


def _request(repo: Repo, name: str) -> None:
    from dvc.fs import get_cloud_fs

    with suppress(Exception):
        files, config, path = get_cloud_fs(repo.config, name=name)
        files(**config).exists(path)
