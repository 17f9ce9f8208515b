"""GitHub, through its REST API (docs.github.com/rest, version 2022-11-28)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops.base.environment import given
from mlops.base.errors import UserError
from mlops.base.http import Client, Operation, RequestRefused, Token, retry_ambiguous_create
from mlops.forge.comments import Comment, cut, upsert
from mlops.forge.protocol import State

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
# Characters of a comment or a pull request's text, and of a status.
LONGEST, LONGEST_STATUS = 65_536, 140
WRITE = "pull-requests: write"
READ = "pull-requests: read"
EXISTS = "already exists"
FORBIDDEN = "not permitted to create or approve pull requests"


def connect(environment: Mapping[str, str], current_pull_request: int | None = None) -> GitHub:
    """The repository that the environment names, with its token.

    Raises UserError for a malformed token, or a name that is not OWNER/NAME.
    """
    repository = given(environment, "GITHUB_REPOSITORY")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"GITHUB_REPOSITORY: found {repository!r}, expected OWNER/NAME")
    url = (given(environment, "GITHUB_API_URL") or "https://api.github.com").rstrip("/")

    def explain(status: int, reason: str, operation: Operation) -> str:
        return _explain(repository, url, status, reason, operation)

    token = Token("GITHUB_TOKEN", given(environment, "GITHUB_TOKEN"))
    client = Client("GitHub", "GITHUB_API_URL", url, token, explain, HEADERS)
    return GitHub(client, repository, current_pull_request, _run_url(environment, repository))


@dataclass(frozen=True)
class GitHub:
    """A repository on GitHub; `run_url` is the page of this CI run."""

    client: Client = field(repr=False)
    repository: str
    current_pull_request: int | None
    run_url: str | None

    def comment(self, pull_request: int, body: str, key: str) -> str:
        operation = Operation(f"comment on pull request {pull_request}", WRITE)
        comments = _Comments(self.client, self._root, pull_request, operation)
        return upsert(comments, body, key, LONGEST)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        operation = Operation(f"open a pull request from {branch} into {base}", WRITE)
        text = cut(body, LONGEST)

        def look() -> list[Any]:
            return self._open(f"{self._owner}:{branch}", operation, base=base)

        def create() -> Any:
            content = {"title": title, "body": text, "head": branch, "base": base}
            return self.client.create(self._pulls, operation, content, EXISTS)

        pull = retry_ambiguous_create(look, create)[0]
        if (pull["title"], pull["body"]) != (title, text):
            content, path = {"title": title, "body": text}, f"{self._pulls}/{pull['number']}"
            self.client.send("PATCH", path, operation, json=content)
        return str(pull["html_url"])

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        operation = Operation(f"set the status {context} of {commit[:12]}", "statuses: write")
        content = {"state": state, "context": context, "description": text[:LONGEST_STATUS]}
        link = {"target_url": self.run_url} if self.run_url else {}
        # May be repeated: the latest status of a context counts.
        path = f"{self._root}/statuses/{commit}"
        self.client.send("POST", path, operation, json=content | link)

    def number(self, head: str | None) -> int | None:
        if head is None:
            return self.current_pull_request
        label = head if ":" in head else f"{self._owner}:{head}"
        pulls = self._open(label, Operation(f"look for the pull request of {label}", READ))
        return int(pulls[0]["number"]) if pulls else None

    def _open(self, label: str, operation: Operation, **filters: str) -> list[Any]:
        """The open pull requests of OWNER:BRANCH, the oldest first."""
        pulls = self.client.pages(self._pulls, operation, state="open", head=label, **filters)
        # GitHub ignores a filter that it can't read, and lists them all.
        own = [pull for pull in pulls if pull["head"]["label"].lower() == label.lower()]
        return sorted(own, key=lambda pull: int(pull["number"]))

    @property
    def _root(self) -> str:
        return f"/repos/{self.repository}"

    @property
    def _pulls(self) -> str:
        return f"{self._root}/pulls"

    @property
    def _owner(self) -> str:
        return self.repository.partition("/")[0]


@dataclass(frozen=True)
class _Comments:
    client: Client
    root: str
    number: int
    operation: Operation

    def own(self) -> list[Comment]:
        login = self._login()
        items = self.client.pages(self._path, self.operation)
        # A stranger could change a comment of their own after we took it for ours.
        return [self._comment(item) for item in items if _is_own(item.get("user"), login)]

    def create(self, body: str) -> Comment:
        return self._comment(self.client.create(self._path, self.operation, {"body": body}))

    def update(self, comment: Comment, body: str) -> None:
        self.client.send("PATCH", comment.path, self.operation, json={"body": body})

    def delete(self, comment: Comment) -> None:
        self.client.send("DELETE", comment.path, self.operation)

    def _login(self) -> str | None:
        """The token's owner; an app's token, such as a workflow's, may not ask."""
        try:
            return str(self.client.send("GET", "/user", self.operation)["login"])
        except RequestRefused as refused:
            if refused.status != 403:
                raise
            return None

    def _comment(self, item: Any) -> Comment:
        path = f"{self.root}/issues/comments/{item['id']}"
        return Comment(path, item["body"] or "", str(item["html_url"]))

    @property
    def _path(self) -> str:
        return f"{self.root}/issues/{self.number}/comments"


def _is_own(user: Any, login: str | None) -> bool:
    if not user:
        return False
    return bool(user["login"] == login if login else user["type"] == "Bot")


def _explain(repository: str, url: str, status: int, reason: str, operation: Operation) -> str:
    if status == 401:
        return f"GITHUB_TOKEN: {url} does not accept it ({reason}); it expired, or is another's"
    if status == 403 and FORBIDDEN in reason:
        return (
            "GitHub: a workflow may not open pull requests here; tick 'Allow GitHub Actions "
            "to create and approve pull requests' under Settings, Actions, General"
        )
    if status == 403:
        return (
            f"GitHub: may not {operation.description} ({reason}); the token needs "
            f"`permissions: {operation.permission}`"
        )
    if status == 404:
        return (
            f"GitHub: could not {operation.description} in {repository}: not found; "
            "GITHUB_REPOSITORY is another, or the token does not see it "
            f"(`permissions: {operation.permission}`)"
        )
    if 300 <= status < 400:
        return f"GITHUB_REPOSITORY: found {repository}, which has another name now"
    return f"GitHub: could not {operation.description}: {reason}"


def _run_url(environment: Mapping[str, str], repository: str) -> str | None:
    server, run = given(environment, "GITHUB_SERVER_URL"), given(environment, "GITHUB_RUN_ID")
    return f"{server}/{repository}/actions/runs/{run}" if server and run else None
