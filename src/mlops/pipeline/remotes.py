"""DVC's default remote is asked once whether it is there, before anything waits for it.

The clients of object stores try again and again: a push to one that is away takes many minutes,
and says nothing meanwhile.
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
_answered: set[tuple[str, str]] = set()


def default(repo: Repo) -> str | None:
    """The name of the remote that is used where nobody names one; none where none is configured."""
    name: str | None = repo.config["core"].get("remote")
    return name


def require_answer(repo: Repo) -> None:
    """Raise UserError when the default remote, where there is one, says nothing in good time.

    A refusal is an answer too: whoever asks for something is told better what is wrong with it.
    """
    name = default(repo)
    if name is None or (repo.root_dir, name) in _answered:
        return
    question = Thread(target=_ask, args=(repo, name), daemon=True)
    question.start()
    question.join(ANSWER_SECONDS)
    if question.is_alive():
        raise UserError(f"no answer within {ANSWER_SECONDS:.0f} s")
    _answered.add((repo.root_dir, name))


def _ask(repo: Repo, name: str) -> None:
    from dvc.fs import get_cloud_fs

    with suppress(Exception):
        files, config, path = get_cloud_fs(repo.config, name=name)
        files(**config).exists(path)
