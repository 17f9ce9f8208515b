"""Git: read any commit, write one without touching the workspace, push it where it is expected.

The one place that calls Git: in the project's own repository, which may hold it in a sub-folder,
and without what a person's settings would change. Files are named as the project's folder has them.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mlops.base.environment import given, without_credentials
from mlops.base.errors import UserError, one_line

QUIET = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
# Git sets these for hooks; they name another repository than the one that is asked for.
INHERITED = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_QUARANTINE_PATH",
    "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS",
)  # fmt: skip
# A person's hooks, signatures and formats are for the commits of that person.
SETTINGS = {
    "core.hooksPath": os.devnull, "core.fsmonitor": "false", "color.ui": "false",
    "commit.gpgSign": "false", "push.gpgSign": "false", "push.followTags": "false",
    "log.showSignature": "false", "i18n.logOutputEncoding": "UTF-8",
}  # fmt: skip
DUBIOUS = "dubious ownership"
# How long a remote may take to say which of its branches is the main one.
ANSWER_SECONDS = 30.0
# What speaks to a remote, and is given the forge's token for as long as it runs: in a file, as a
# checkout would keep it, all that the job runs could read it.
REMOTE = ("fetch", "ls-remote", "push")
SERVERS = {"GITHUB_TOKEN": "GITHUB_SERVER_URL", "SYSTEM_ACCESSTOKEN": "SYSTEM_COLLECTIONURI"}
# How often a push is tried while others push too.
ATTEMPTS = 5


class GitError(UserError):
    """Git refused a command; the message is the line of its output that says why."""


class Change(NamedTuple):
    """One commit that changed a file; its day, and its `time` in seconds, are the committer's."""

    commit: str
    day: str
    time: int
    author: str
    subject: str


def git(
    root: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None,
    seconds: float | None = None, errors: str = "replace",
) -> str:  # fmt: skip
    """The standard output of a Git command, decoded. Raises GitError when it fails."""
    settings = [word for item in SETTINGS.items() for word in ("-c", "=".join(item))]
    inherited = {name: text for name, text in os.environ.items() if name not in INHERITED}
    try:
        process = subprocess.run(
            ["git", *settings, *arguments], cwd=root, input=stdin, capture_output=True,
            check=False, timeout=seconds, env={
                **inherited, **QUIET, **(_credential() if arguments[0] in REMOTE else {}),
                **(env or {}),
            },
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError("git: not found on the PATH") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]}: not finished after {seconds:g} s") from None
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        # Some commands then repeat their usage.
        if any("not a git repository" in line.lower() for line in lines):
            raise GitError(f"{root.resolve()}: not in a Git repository; `git init` makes one")
        faults = [line for line in lines if line.startswith(("fatal", "error", " !"))]
        reason = without_credentials(one_line((faults or lines[-1:])[0]))
        if DUBIOUS in reason:
            command = f"git config --global --add safe.directory {root.resolve()}"
            reason = f"{reason}; if you trust its owner: `{command}`"
        raise GitError(f"git {arguments[0]}: {reason}")
    return process.stdout.decode(errors=errors)


def _credential() -> dict[str, str]:
    """Git's variables that send a CI job's token to its forge, and to no other server."""
    for name, server in SERVERS.items():
        token, url = given(os.environ, name), given(os.environ, server).rstrip("/")
        if token and url:
            login = base64.b64encode(f"x-access-token:{token}".encode()).decode()
            count = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
            return {
                "GIT_CONFIG_COUNT": str(count + 1),
                f"GIT_CONFIG_KEY_{count}": f"http.{url}/.extraheader",
                f"GIT_CONFIG_VALUE_{count}": f"AUTHORIZATION: basic {login}",
            }
    return {}


def succeeds(root: Path, *arguments: str) -> bool:
    with suppress(GitError):
        git(root, *arguments)
        return True
    return False


def commit(root: Path, ref: str) -> str:
    """The commit that a name stands for. Raises GitError where there is none in this clone."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
    except GitError:
        lacks = _lacks(root)
        raise GitError(f"{ref}: no such commit here{lacks and f'; {lacks}'}") from None


def exists(root: Path, ref: str) -> bool:
    """Whether a name stands for a commit in this clone."""
    return succeeds(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")


def described(root: Path) -> str:
    """The commit that is checked out, with `-dirty` when tracked files differ from it.

    `unknown` where Git knows nothing of the folder. Raises GitError where it refuses to look.
    """
    try:
        # A folder may lie in another project's repository.
        if git(root, "ls-files", "--", "."):
            return git(
                root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"
            ).strip()
    except UserError as error:
        if DUBIOUS in str(error):
            raise
    return "unknown"


def show(root: Path, ref: str, file: Path) -> str | None:
    """A file's text at a commit; None when it is not there. Raises GitError for no such commit."""
    commit_id = commit(root, ref)
    if not git(root, "ls-tree", commit_id, "--", file.as_posix()):
        return None
    try:
        return git(root, "show", f"{commit_id}:./{file.as_posix()}", errors="strict")
    except UnicodeDecodeError:
        raise UserError(f"{file} at {ref}: not UTF-8; save the file as UTF-8") from None


def changes(root: Path, ref: str, file: Path) -> list[Change]:
    """The commits of the main line that changed a file, newest first.

    Raises GitError where the clone lacks some of them.
    """
    form = "%H%x09%cs%x09%ct%x09%an%x09%s"
    log = git(root, "log", "--first-parent", f"--format={form}", ref, "--", file.as_posix())
    lines = (line.split("\t", 4) for line in log.splitlines())
    found = [Change(name, day, int(time), *rest) for name, day, time, *rest in lines]
    # Git takes the oldest commit of a shallow clone for the one that made all files.
    if {change.commit for change in found} & _boundary(root):
        raise GitError(f"{file}: {_lacks(root)}")
    return found


def brought(root: Path, commit_id: str) -> list[tuple[int, str]]:
    """The author's time and the message of each commit that a commit of the main line brought.

    A merge brings those of its branch; itself is among them.
    """
    span = [f"{commit_id}^1..{commit_id}"] if exists(root, f"{commit_id}^1") else ["-1", commit_id]
    log = git(root, "log", "-z", "--format=%at%n%B", *span)
    parts = (part.partition("\n") for part in log.split("\0") if part)
    return [(int(time), message) for time, _, message in parts]


def _boundary(root: Path) -> set[str]:
    """The commits whose parents a shallow clone lacks."""
    path = root / git(root, "rev-parse", "--git-path", "shallow").strip()
    return set(path.read_text().split()) if path.exists() else set()


def _lacks(root: Path) -> str:
    cure = "the clone is shallow and lacks earlier commits; `git fetch --unshallow`"
    return cure if _boundary(root) else ""


def changed(root: Path, since: str = "HEAD") -> list[str]:
    """The project's tracked files that differ from a commit."""
    names = git(root, "diff", "--name-only", "--no-renames", "--relative", "-z", since)
    return names.split("\0")[:-1]


def is_ancestor(root: Path, older: str, newer: str) -> bool:
    """Whether `newer` has `older` in its history."""
    return succeeds(root, "merge-base", "--is-ancestor", older, newer)


def prefix(root: Path) -> str:
    """The project's folder within its repository, as `models/churn/`; "" for the whole of it."""
    return git(root, "rev-parse", "--show-prefix").strip()


def top(root: Path) -> Path:
    """The folder of the whole repository."""
    return Path(git(root, "rev-parse", "--show-toplevel").removesuffix("\n"))


def remote(root: Path) -> str:
    """The remote to push to: `origin`, or the only one; "" without any. Raises UserError."""
    try:
        # A person's settings may name remotes that this repository does not have.
        listed = git(root, "config", "--name-only", "--get-regexp", r"^remote\..*\.url$")
    except GitError:
        return ""
    names = sorted({line[len("remote.") : -len(".url")] for line in listed.splitlines()})
    if len(names) > 1 and "origin" not in names:
        raise UserError(f"git remote: found {', '.join(names)}; expected one of them to be origin")
    return "origin" if "origin" in names else names[0]


def address(root: Path) -> str:
    """From where this repository can be cloned: its remote, without credentials, or its folder."""
    name, folder = remote(root), top(root)
    url = git(root, "remote", "get-url", name).strip() if name else str(folder)
    if url.startswith("http"):
        return without_credentials(url)
    # A path may be relative to the repository.
    return str((folder / url).resolve()) if (folder / url).exists() else url


def main_branch(root: Path, otherwise: str = "main") -> str:
    """The branch that releases come from, as the remote says; `otherwise` where nobody knows."""
    name = remote(root)
    head = f"refs/remotes/{name}/HEAD"
    with suppress(GitError):
        answer = git(root, "ls-remote", "--symref", name, "HEAD", seconds=ANSWER_SECONDS)
        target, _, _ = answer.removeprefix("ref: ").partition("\tHEAD\n")
        if target.startswith("refs/heads/"):
            return target.removeprefix("refs/heads/")
    # Without an answer, what a clone was told when it was made.
    with suppress(GitError):
        return git(root, "symbolic-ref", head).strip().removeprefix(f"refs/remotes/{name}/")
    return otherwise


def base(root: Path) -> str:
    """What a branch is compared with: the remote's main branch; without a remote, HEAD.

    Fetches that branch where it is not here. Raises UserError when that fails: a branch must not
    choose its own champion.
    """
    if not remote(root):
        return "HEAD"
    branch = main_branch(root)
    main = f"refs/remotes/{remote(root)}/{branch}"
    try:
        return main if exists(root, main) else _fetched(root, branch)
    except GitError as error:
        raise UserError(f"{branch}: not here, and {error}; say --base REF") from None


def tip(root: Path) -> str:
    """The newest commit of the remote's main branch, fetched; without a remote, HEAD."""
    return _fetched(root, main_branch(root)) if remote(root) else commit(root, "HEAD")


def _fetched(root: Path, branch: str) -> str:
    name = remote(root)
    copy = f"refs/remotes/{name}/{branch}"
    for left in reversed(range(ATTEMPTS)):
        try:
            git(root, "fetch", "--quiet", "--no-tags", name, f"+refs/heads/{branch}:{copy}")
            break
        except GitError as error:
            # Another process fetches it into this clone.
            if not left or "cannot lock ref" not in str(error):
                raise
    return commit(root, copy)
