"""What happens to a repository, as GitHub tells it, and which workflows it starts."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.forge_state import NAME, OWNER

REPOSITORY = f"{OWNER}/{NAME}"
TOKEN = "the-run's-own"
NOWHERE = "0" * 40


@dataclass(frozen=True)
class Event:
    """One event: the `github` context that it comes with, and the files that a push changed."""

    name: str
    context: Mapping[str, Any]
    changed: tuple[str, ...] = ()

    @property
    def github(self) -> dict[str, Any]:
        """The whole `github` context."""
        return {
            "event_name": self.name,
            "repository": REPOSITORY,
            "repository_owner": OWNER,
            "token": TOKEN,
            "run_id": "1",
            "server_url": "https://forge.invalid",
            "api_url": "https://forge.invalid/api",
            **self.context,
        }

    def environment(self, temp: Path, folder: Path) -> dict[str, str]:
        """The variables that every step finds; `temp` gets the event's own file."""
        event = temp / "event.json"
        event.write_text(json.dumps(self.github["event"]))
        texts = {name: value for name, value in self.github.items() if isinstance(value, str)}
        del texts["token"]
        return {
            **{f"GITHUB_{name.upper()}": value for name, value in texts.items()},
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_WORKSPACE": str(folder),
            "RUNNER_TEMP": str(temp),
        }

    def with_context(self, **context: Any) -> Event:
        """The same event where some of the context is another: a server's address, a token."""
        return Event(self.name, {**self.context, **context}, self.changed)


def pull_request(
    number: int, branch: str, owner: str = OWNER, sha: str = NOWHERE, base: str = NOWHERE
) -> Event:
    """A pull request against main from a branch of `owner`; anybody but the owner is a fork."""
    head = {"full_name": f"{owner}/{NAME}", "fork": owner != OWNER, "owner": {"login": owner}}
    pull = {"number": number, "head": {"ref": branch, "repo": head}, "base": {"sha": base}}
    context = {
        "ref": f"refs/pull/{number}/merge",
        "ref_name": f"{number}/merge",
        "sha": sha,
        "base_ref": "main",
        "head_ref": branch,
        "event": {"number": number, "pull_request": pull},
    }
    return Event("pull_request", context)


def push(
    before: str, sha: str = NOWHERE, changed: tuple[str, ...] = (), branch: str = "main"
) -> Event:
    """A push to a branch that changed these files; `before` is where it was."""
    event = _on_branch("push", {"before": before, "after": sha}, sha, branch)
    return Event("push", event.context, changed)


def merge_group(sha: str = NOWHERE) -> Event:
    """A merge queue has made the commit that main will be."""
    queue = {"base_sha": NOWHERE, "head_sha": sha}
    return _on_branch("merge_group", {"merge_group": queue}, sha, "gh-readonly-queue/main/pr-7")


def schedule(sha: str = NOWHERE) -> Event:
    """The time of a schedule has come."""
    return _on_branch("schedule", {}, sha)


def dispatch(branch: str = "main", sha: str = NOWHERE, because: str = "") -> Event:
    """Somebody pressed the button."""
    return _on_branch("workflow_dispatch", {"inputs": {"because": because}}, sha, branch)


def completed(
    workflow: str, of: Event, conclusion: str, sha: str = NOWHERE, main: str = NOWHERE
) -> Event:
    """A run of the named workflow, which `of` started for the commit `sha`, has come to its end."""
    head = of.github["event"].get("pull_request", {}).get("head", {})
    run = {
        "id": 1,
        "name": workflow,
        "event": of.name,
        "conclusion": conclusion,
        "head_sha": sha,
        "head_branch": head.get("ref", "main"),
        "head_repository": head.get("repo", {"full_name": REPOSITORY, "owner": {"login": OWNER}}),
    }
    return _on_branch("workflow_run", {"workflow_run": run}, main)


def _on_branch(name: str, event: Mapping[str, Any], sha: str, branch: str = "main") -> Event:
    at = {"ref": f"refs/heads/{branch}", "ref_name": branch, "sha": sha}
    repository = {"full_name": REPOSITORY, "default_branch": "main"}
    return Event(name, {**at, "event": {**event, "repository": repository}})


def starts(on: Mapping[str, Any], event: Event) -> bool:
    """Whether a workflow whose triggers are `on` runs for the event."""
    if event.name not in on or event.name in ("schedule", "workflow_dispatch"):
        return event.name in on
    asked = on[event.name] or {}
    if event.name == "workflow_run":
        return event.github["event"]["workflow_run"]["name"] in asked["workflows"]
    unknown = set(asked) - {"branches", "paths"}
    assert not unknown, f"not understood: {unknown}"
    branch = event.github.get("base_ref") or event.github["ref_name"]
    return _any(asked.get("branches"), (branch,)) and _any(asked.get("paths"), event.changed)


def _any(patterns: list[str] | None, names: tuple[str, ...]) -> bool:
    """Whether a name matches a pattern; `*` stops at a slash."""
    return patterns is None or any(
        fnmatch.fnmatchcase(name, pattern) and name.count("/") == pattern.count("/")
        for pattern in patterns
        for name in names
    )
