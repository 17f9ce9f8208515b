"""GitHub, through its REST API (docs.github.com/rest, version 2022-11-28)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mlops.base.environment import given
from mlops.base.errors import UserError
from mlops.base.http import Client, Operation, RequestRefused, Token
from mlops.forge.protocol import Merge, State
from mlops.forge.rest import OTHER, REDIRECT, Comment, RestForge, explanation

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
LONGEST_STATUS = 140
DECISIONS = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")
FORBIDDEN = "not permitted to create or approve pull requests"
NOT_ALLOWED = (
    "GitHub: a workflow may not open pull requests here; tick 'Allow GitHub Actions "
    "to create and approve pull requests' under Settings, Actions, General"
)
REFUSALS = {
    401: "GITHUB_TOKEN: {url} does not accept it ({reason}); it expired, or is another's",
    403: "GitHub: may not {what} ({reason}); the token needs `permissions: {permission}`",
    404: "GitHub: could not {what} in {repository}: not found; GITHUB_REPOSITORY is another, or "
    "the token does not see it (`permissions: {permission}`)",
    REDIRECT: "GITHUB_REPOSITORY: found {repository}, which has another name now",
    OTHER: "GitHub: could not {what}: {reason}",
}


def connect(environment: Mapping[str, str], current_pull_request: int | None = None) -> GitHub:
    """The repository that the environment names, with its token.

    Raises UserError for a malformed token, or a name that is not OWNER/NAME.
    """
    repository = given(environment, "GITHUB_REPOSITORY")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"GITHUB_REPOSITORY: found {repository!r}, expected OWNER/NAME")
    url = (given(environment, "GITHUB_API_URL") or "https://api.github.com").rstrip("/")
    general = explanation(REFUSALS, url=url, repository=repository)

    def explain(status: int, reason: str, operation: Operation) -> str:
        return NOT_ALLOWED if FORBIDDEN in reason else general(status, reason, operation)

    token = Token("GITHUB_TOKEN", given(environment, "GITHUB_TOKEN"))
    client = Client("GitHub", "GITHUB_API_URL", url, token, explain, HEADERS)
    server, run = given(environment, "GITHUB_SERVER_URL"), given(environment, "GITHUB_RUN_ID")
    run_url = f"{server}/{repository}/actions/runs/{run}" if server and run else None
    return GitHub(client, current_pull_request, run_url, f"/repos/{repository}")


class GitHub(RestForge):
    """The repository OWNER/NAME on GitHub."""

    longest_comment = longest_text = 65_536
    comment_key = text_key = "body"
    number_key, source_key, target_key = "number", "head", "base"
    pulls, exists = "pulls", "already exists"
    permission, read_permission = "pull-requests: write", "pull-requests: read"

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        operation = Operation(f"set the status {context} of {commit[:12]}", "statuses: write")
        content = {"state": state, "context": context, "description": text[:LONGEST_STATUS]}
        link = {"target_url": self.run_url} if self.run_url else {}
        # May be repeated: the latest status of a context counts.
        path = f"{self.root}/statuses/{commit}"
        self.client.send("POST", path, operation, json=content | link)

    def files(self, pull_request: int) -> dict[str, str]:
        operation = Operation(f"list the files of {pull_request}", self.read_permission)
        items = [*self.client.pages(f"{self.root}/pulls/{pull_request}/files", operation)]
        old = {item["previous_filename"]: "" for item in items if item.get("previous_filename")}
        return old | {item["filename"]: item["sha"] or "" for item in items}

    def content(self, blob: str) -> str:
        operation = Operation(f"read the file {blob[:12]}", "contents: read")
        answer = self.client.send("GET", f"{self.root}/git/blobs/{blob}", operation)
        return base64.b64decode(answer["content"]).decode(errors="replace")

    def merged(self, commit: str) -> Merge | None:
        operation = Operation(f"look for the merge of {commit[:12]}", self.read_permission)
        pulls = self.client.pages(f"{self.root}/commits/{commit}/pulls", operation)
        # A commit is listed too with pull requests that only contain it.
        pull = next((one for one in pulls if one["merge_commit_sha"] == commit), None)
        if pull is None or not pull["merged_at"]:
            return None
        reviews = self.client.pages(f"{self.root}/pulls/{pull['number']}/reviews", operation)
        # A comment after a review does not change it.
        latest = {(review["user"] or {}).get("login", "ghost"): review["state"]
                  for review in reviews if review["state"] in DECISIONS}  # fmt: skip
        approved = tuple(name for name, state in latest.items() if state == "APPROVED")
        opened, merged = (datetime.fromisoformat(pull[key]) for key in ("created_at", "merged_at"))
        return Merge(opened, merged, approved)

    def _open_pulls(self, head: str, operation: Operation, base: str | None = None) -> list[Any]:
        label = head if ":" in head else f"{self.root.split('/')[2]}:{head}"
        filters = {"state": "open", "head": label, **({"base": base} if base else {})}
        pulls = self.client.pages(f"{self.root}/pulls", operation, **filters)
        # GitHub ignores a filter that it can't read, and lists them all.
        return [pull for pull in pulls if pull["head"]["label"].lower() == label.lower()]

    def _own_comments(self, pull_request: int, operation: Operation) -> list[Comment]:
        login = self._login(operation)
        own = {"login": login} if login else {"type": "Bot"}
        items = self.client.pages(f"{self.root}/issues/{pull_request}/comments", operation)
        mine = (item for item in items if own.items() <= (item.get("user") or {}).items())
        return [self._comment(item) for item in mine]

    def _create_comment(self, pull_request: int, text: str, operation: Operation) -> Comment:
        path = f"{self.root}/issues/{pull_request}/comments"
        return self._comment(self.client.create(path, operation, {"body": text}))

    def _comment(self, item: Any) -> Comment:
        path = f"{self.root}/issues/comments/{item['id']}"
        return Comment(path, item["body"] or "", str(item["html_url"]))

    def _login(self, operation: Operation) -> str | None:
        """The token's owner; an app's token, such as a workflow's, may not ask."""
        try:
            return str(self.client.send("GET", "/user", operation)["login"])
        except RequestRefused as refused:
            if refused.status != 403:
                raise
            return None
