"""Azure DevOps, through its REST API (learn.microsoft.com/rest/api/azure/devops, version 7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from mlops.base.environment import given
from mlops.base.http import Client, Operation, Token, retry_ambiguous_create
from mlops.forge.comments import Comment, cut, upsert
from mlops.forge.protocol import State

# With the second it answers a bad token with 401, and not with a page to sign in.
HEADERS = {"Accept": "application/json", "X-TFS-FedAuthRedirect": "Suppress"}
VERSION = {"api-version": "7.1"}
PREVIEW = {"api-version": "7.1-preview"}
# Characters of a comment, and of a pull request's text.
LONGEST, LONGEST_TEXT = 150_000, 4_000
CONTRIBUTE = "Contribute to pull requests"
STATES: dict[State, str] = {"pending": "pending", "success": "succeeded", "failure": "failed"}
EXISTS = "TF401179"


def connect(environment: Mapping[str, str], current_pull_request: int | None = None) -> AzureDevOps:
    """The repository that the environment names, with its token.

    Raises UserError for a malformed token.
    """
    url, project, repository = (
        given(environment, name).rstrip("/")
        for name in ("SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "BUILD_REPOSITORY_NAME")
    )

    def explain(status: int, reason: str, operation: Operation) -> str:
        return _explain(f"{project}/{repository}", status, reason, operation)

    # Unlike Bearer, Basic serves a pipeline's token and a person's alike.
    token = Token("SYSTEM_ACCESSTOKEN", given(environment, "SYSTEM_ACCESSTOKEN"), basic=True)
    build = given(environment, "BUILD_BUILDID")
    run_url = f"{url}/{quote(project)}/_build/results?buildId={build}" if build else None
    client = Client("Azure DevOps", "SYSTEM_COLLECTIONURI", url, token, explain, HEADERS, VERSION)
    return AzureDevOps(client, url, project, repository, current_pull_request, run_url)


@dataclass(frozen=True)
class AzureDevOps:
    """A repository on Azure DevOps; `run_url` is the page of this CI run."""

    client: Client = field(repr=False)
    collection: str
    project: str
    repository: str
    current_pull_request: int | None
    run_url: str | None

    def comment(self, pull_request: int, body: str, key: str) -> str:
        operation = Operation(f"comment on pull request {pull_request}", CONTRIBUTE)
        path, page = f"{self._root}/pullRequests/{pull_request}", self._page(pull_request)
        return upsert(_Comments(self.client, path, page, operation), body, key, LONGEST)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        operation = Operation(f"open a pull request from {branch} into {base}", CONTRIBUTE)
        text = {"title": title, "description": cut(body, LONGEST_TEXT)}

        def create() -> Any:
            content = {"sourceRefName": _ref(branch), "targetRefName": _ref(base), **text}
            return self.client.create(self._pulls, operation, content, EXISTS)

        pulls = retry_ambiguous_create(lambda: self._open(branch, operation, base), create)
        number = pulls[0]["pullRequestId"]
        # Always: the list shows only the beginning of its text.
        self.client.send("PATCH", f"{self._pulls}/{number}", operation, json=text)
        return self._page(number)

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        operation = Operation(f"set the status {context} of {commit[:12]}", "Contribute")
        genre, _, name = context.rpartition("/")
        content: dict[str, Any] = {
            "state": STATES[state],
            "description": text,
            "context": {"name": name, "genre": genre},
        }
        link = {"targetUrl": self.run_url} if self.run_url else {}
        # May be repeated: the latest status of a context counts.
        path = f"{self._root}/commits/{commit}/statuses"
        self.client.send("POST", path, operation, json=content | link)

    def number(self, head: str | None) -> int | None:
        """Only for branches of this repository; an OWNER before the branch is ignored."""
        if head is None:
            return self.current_pull_request
        branch = head.rpartition(":")[2]
        pulls = self._open(branch, Operation(f"look for the pull request of {branch}", "Read"))
        return int(pulls[0]["pullRequestId"]) if pulls else None

    def _open(self, branch: str, operation: Operation, base: str | None = None) -> list[Any]:
        """The open pull requests of a branch of this repository, the oldest first."""
        search = {"status": "active", "sourceRefName": _ref(branch)}
        if base:
            search["targetRefName"] = _ref(base)
        parameters = {f"searchCriteria.{name}": value for name, value in search.items()}
        pulls = self.client.send("GET", self._pulls, operation, params=parameters)["value"]
        # A fork may have a branch of the same name.
        own = [pull for pull in pulls if not pull.get("forkSource")]
        return sorted(own, key=lambda pull: int(pull["pullRequestId"]))

    def _page(self, number: int) -> str:
        repository = f"{quote(self.project)}/_git/{quote(self.repository)}"
        return f"{self.collection}/{repository}/pullrequest/{number}"

    @property
    def _root(self) -> str:
        return f"/{quote(self.project)}/_apis/git/repositories/{quote(self.repository)}"

    @property
    def _pulls(self) -> str:
        return f"{self._root}/pullrequests"


@dataclass(frozen=True)
class _Comments:
    """Each comment is the first one of its own thread."""

    client: Client
    path: str
    page: str
    operation: Operation

    def own(self) -> list[Comment]:
        path = "/_apis/connectionData"
        connection = self.client.send("GET", path, self.operation, params=PREVIEW)
        author = connection["authenticatedUser"]["id"]
        threads = self.client.send("GET", self._threads, self.operation)["value"]
        threads = sorted(threads, key=lambda thread: int(thread["id"]))
        return [self._comment(thread) for thread in threads if _is_own(thread, author)]

    def create(self, body: str) -> Comment:
        # Without a status: an active thread has to be resolved by hand, a closed one is folded.
        content = {"comments": [{"parentCommentId": 0, "content": body, "commentType": "text"}]}
        return self._comment(self.client.create(self._threads, self.operation, content))

    def update(self, comment: Comment, body: str) -> None:
        self.client.send("PATCH", comment.path, self.operation, json={"content": body})

    def delete(self, comment: Comment) -> None:
        self.client.send("DELETE", comment.path, self.operation)

    def _comment(self, thread: Any) -> Comment:
        first, number = thread["comments"][0], thread["id"]
        path = f"{self._threads}/{number}/comments/{first['id']}"
        return Comment(path, first.get("content") or "", f"{self.page}?discussionId={number}")

    @property
    def _threads(self) -> str:
        return f"{self.path}/threads"


def _is_own(thread: Any, author: str) -> bool:
    first: Any = next(iter(thread["comments"]), None)
    if thread.get("isDeleted") or not first or first.get("isDeleted"):
        return False
    return bool(first["author"]["id"] == author)


def _explain(repository: str, status: int, reason: str, operation: Operation) -> str:
    if status in (203, 401) or 300 <= status < 400:
        return (
            "SYSTEM_ACCESSTOKEN: Azure DevOps does not accept it; in the step, `env: "
            "SYSTEM_ACCESSTOKEN: $(System.AccessToken)` (the build of a fork has none)"
        )
    if status == 403:
        return (
            f"Azure DevOps: may not {operation.description} ({reason}); give the build service "
            f"'{operation.permission}' under Project settings, Repositories, Security"
        )
    if status == 404:
        return (
            f"Azure DevOps: could not {operation.description} in {repository} ({reason}); "
            "SYSTEM_TEAMPROJECT or BUILD_REPOSITORY_NAME is another, or the build service "
            "may not read it"
        )
    return f"Azure DevOps: could not {operation.description}: {reason}"


def _ref(branch: str) -> str:
    return f"refs/heads/{branch}"
