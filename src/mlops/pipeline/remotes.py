"""Check that DVC's default remote answers, before anything waits for it.

The clients of object stores retry for many minutes without a message when a store is away.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from mlops.base.errors import UserError

if TYPE_CHECKING:
    from dvc.repo import Repo

# A first answer may need a token from a command-line tool.
ANSWER_SECONDS = 30.0


def default(repo: Repo) -> str | None:
    """The name of the default remote; None where none is configured."""
    name: str | None = repo.config["core"].get("remote")
    return name


def require_answer(repo: Repo) -> None:
    """Raise UserError when the default remote does not answer within `ANSWER_SECONDS`.

    An error is an answer too: the operation that follows reports it better.
    """
    name = default(repo)
    if name is None:
        return
    request = Thread(target=_request, args=(repo, name), daemon=True)
    request.start()
    request.join(ANSWER_SECONDS)
    if request.is_alive():
        raise UserError(f"no answer within {ANSWER_SECONDS:.0f} s")


def _request(repo: Repo, name: str) -> None:
    from dvc.fs import get_cloud_fs

    with suppress(Exception):
        files, config, path = get_cloud_fs(repo.config, name=name)
        files(**config).exists(path)
