"""GitHub, through its REST API (docs.github.com/rest, version 2022-11-28)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops.base.environment import given
from mlops.base.errors import UserError
from mlops.base.http import Client, Operation, RequestRefused, Token
from mlops.forge.protocol import State
from mlops.forge.rest import Comment, RestForge

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
LONGEST_STATUS = 140
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
    server, run = given(environment, "GITHUB_SERVER_URL"), given(environment, "GITHUB_RUN_ID")
    run_url = f"{server}/{repository}/actions/runs/{run}" if server and run else None
    return GitHub(client, current_pull_request, run_url, repository)


@dataclass(frozen=True)
class GitHub(RestForge):
    """The repository OWNER/NAME on GitHub."""

    repository: str
    longest_comment = longest_text = 65_536
    comment_key = "body"
    number_key = "number"
    permission, read_permission = "pull-requests: write", "pull-requests: read"

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        operation = Operation(f"set the status {context} of {commit[:12]}", "statuses: write")
        content = {"state": state, "context": context, "description": text[:LONGEST_STATUS]}
        link = {"target_url": self.run_url} if self.run_url else {}
        # May be repeated: the latest status of a context counts.
        path = f"{self._root}/statuses/{commit}"
        self.client.send("POST", path, operation, json=content | link)

    def _open_pulls(self, head: str, operation: Operation, base: str | None = None) -> list[Any]:
        label = head if ":" in head else f"{self.repository.partition('/')[0]}:{head}"
        filters = {"state": "open", "head": label, **({"base": base} if base else {})}
        pulls = self.client.pages(f"{self._root}/pulls", operation, **filters)
        # GitHub ignores a filter that it can't read, and lists them all.
        return [pull for pull in pulls if pull["head"]["label"].lower() == label.lower()]

    def _create_pull(
        self, branch: str, base: str, title: str, text: str, operation: Operation
    ) -> Any:
        content = {"title": title, "body": text, "head": branch, "base": base}
        return self.client.create(f"{self._root}/pulls", operation, content, EXISTS)

    def _update_pull(self, pull: Any, title: str, text: str, operation: Operation) -> str:
        if (pull["title"], pull["body"]) != (title, text):
            content, path = {"title": title, "body": text}, f"{self._root}/pulls/{pull['number']}"
            self.client.send("PATCH", path, operation, json=content)
        return str(pull["html_url"])

    def _own_comments(self, pull_request: int, operation: Operation) -> list[Comment]:
        login = self._login(operation)
        path = f"{self._root}/issues/{pull_request}/comments"
        items = self.client.pages(path, operation)
        return [self._comment(item) for item in items if _is_own(item.get("user"), login)]

    def _create_comment(self, pull_request: int, text: str, operation: Operation) -> Comment:
        path = f"{self._root}/issues/{pull_request}/comments"
        return self._comment(self.client.create(path, operation, {"body": text}))

    def _comment(self, item: Any) -> Comment:
        path = f"{self._root}/issues/comments/{item['id']}"
        return Comment(path, item["body"] or "", str(item["html_url"]))

    def _login(self, operation: Operation) -> str | None:
        """The token's owner; an app's token, such as a workflow's, may not ask."""
        try:
            return str(self.client.send("GET", "/user", operation)["login"])
        except RequestRefused as refused:
            if refused.status != 403:
                raise
            return None

    @property
    def _root(self) -> str:
        return f"/repos/{self.repository}"


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
