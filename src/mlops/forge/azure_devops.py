"""Azure DevOps, by its REST API (learn.microsoft.com/rest/api/azure/devops, version 7.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from mlops.base.faults import Patience
from mlops.base.http import Client, Denied, Doing, Site, Token, once
from mlops.forge.forge import State, given, this_pull_request
from mlops.forge.upsert import Comment, cut, upsert

# The second has it say 401 to a bad token, and not send a page to sign in.
HEADERS = {"Accept": "application/json", "X-TFS-FedAuthRedirect": "Suppress"}
VERSION = {"api-version": "7.1"}
PREVIEW = {"api-version": "7.1-preview"}
# Characters of a comment, and of a pull request's text.
LONGEST, LONGEST_TEXT = 150_000, 4_000
CONTRIBUTE = "Contribute to pull requests"
STATES: dict[State, str] = {"pending": "pending", "success": "succeeded", "failure": "failed"}
EXISTS = "TF401179"


def connect(environment: Mapping[str, str], patience: Patience | None = None) -> AzureDevOps:
    """The repository that the environment names, with its token.

    Raises UserError for one that can't be a token.
    """
    url, project, repository = (
        given(environment, name).rstrip("/")
        for name in ("SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "BUILD_REPOSITORY_NAME")
    )
    explain = _explain(project, repository)
    site = Site("Azure DevOps", "SYSTEM_COLLECTIONURI", url, explain, HEADERS, VERSION)
    # Unlike Bearer, Basic serves a pipeline's token and a person's alike.
    token = Token("SYSTEM_ACCESSTOKEN", given(environment, "SYSTEM_ACCESSTOKEN"), basic=True)
    client = Client(site, token, patience or Patience())
    build = given(environment, "BUILD_BUILDID")
    run = f"{url}/{quote(project)}/_build/results?buildId={build}" if build else None
    return AzureDevOps(client, url, project, repository, this_pull_request(environment), run)


@dataclass(frozen=True)
class AzureDevOps:
    """A repository on Azure DevOps; `run` is the page of the CI run that speaks here."""

    client: Client = field(repr=False)
    collection: str
    project: str
    repository: str
    this: int | None
    run: str | None

    def comment(self, pull_request: int, body: str, key: str) -> str:
        doing = Doing(f"comment on pull request {pull_request}", CONTRIBUTE)
        path, page = f"{self._root}/pullRequests/{pull_request}", self._page(pull_request)
        return upsert(_Comments(self.client, path, page, doing), body, key, LONGEST)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        doing = Doing(f"open a pull request from {branch} into {base}", CONTRIBUTE)
        new = {"title": title, "description": cut(body, LONGEST_TEXT)}

        def create() -> Any:
            wanted = {"sourceRefName": _ref(branch), "targetRefName": _ref(base), **new}
            try:
                return self.client.send("POST", self._pulls, doing, again=False, json=wanted)
            except Denied as denied:
                # Another run was faster; there can be but one for two branches.
                if EXISTS in denied.reason:
                    self.client.doubt("it has one, but does not show it", doing)
                raise

        number = once(lambda: self._open(branch, doing, base), create)[0]["pullRequestId"]
        # Always, for the list that found it has but the beginning of its text.
        self.client.send("PATCH", f"{self._pulls}/{number}", doing, json=new)
        return self._page(number)

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        doing = Doing(f"set the status {context} of {commit[:12]}", "Contribute")
        genre, _, name = context.rpartition("/")
        content: dict[str, Any] = {
            "state": STATES[state],
            "description": text,
            "context": {"name": name, "genre": genre},
        }
        link = {"targetUrl": self.run} if self.run else {}
        # Repeated, it says the same: the latest of a context counts.
        path = f"{self._root}/commits/{commit}/statuses"
        self.client.send("POST", path, doing, json=content | link)

    def number(self, head: str | None) -> int | None:
        """Of this repository's own branches; what an OWNER before it says is not looked at."""
        if head is None:
            return self.this
        branch = head.rpartition(":")[2]
        found = self._open(branch, Doing(f"look for the pull request of {branch}", "Read"))
        return int(found[0]["pullRequestId"]) if found else None

    def _open(self, branch: str, doing: Doing, base: str | None = None) -> list[Any]:
        """The open pull requests of a branch of this repository, the oldest first."""
        search = {"status": "active", "sourceRefName": _ref(branch)}
        if base:
            search["targetRefName"] = _ref(base)
        parameters = {f"searchCriteria.{name}": value for name, value in search.items()}
        found = self.client.send("GET", self._pulls, doing, params=parameters)["value"]
        # A fork may have a branch of the same name.
        own = [pull for pull in found if not pull.get("forkSource")]
        return sorted(own, key=lambda pull: int(pull["pullRequestId"]))

    def _page(self, number: int) -> str:
        place = f"{quote(self.project)}/_git/{quote(self.repository)}"
        return f"{self.collection}/{place}/pullrequest/{number}"

    @property
    def _root(self) -> str:
        return f"/{quote(self.project)}/_apis/git/repositories/{quote(self.repository)}"

    @property
    def _pulls(self) -> str:
        return f"{self._root}/pullrequests"


@dataclass(frozen=True)
class _Comments:
    """Each is the first of a thread of its own."""

    client: Client
    path: str
    page: str
    doing: Doing

    def own(self) -> list[Comment]:
        asked = self.client.send("GET", "/_apis/connectionData", self.doing, params=PREVIEW)
        author = asked["authenticatedUser"]["id"]
        threads = self.client.send("GET", self._threads, self.doing)["value"]
        threads = sorted(threads, key=lambda thread: int(thread["id"]))
        return [self._comment(thread) for thread in threads if _is_own(thread, author)]

    def create(self, body: str) -> Comment:
        # Without a status: an active thread has to be resolved by hand, a closed one is folded.
        wanted = {"comments": [{"parentCommentId": 0, "content": body, "commentType": "text"}]}
        made = self.client.send("POST", self._threads, self.doing, again=False, json=wanted)
        return self._comment(made)

    def update(self, comment: Comment, body: str) -> None:
        self.client.send("PATCH", comment.place, self.doing, json={"content": body})

    def delete(self, comment: Comment) -> None:
        self.client.send("DELETE", comment.place, self.doing)

    def _comment(self, thread: Any) -> Comment:
        first, number = thread["comments"][0], thread["id"]
        place = f"{self._threads}/{number}/comments/{first['id']}"
        return Comment(place, first.get("content") or "", f"{self.page}?discussionId={number}")

    @property
    def _threads(self) -> str:
        return f"{self.path}/threads"


def _is_own(thread: Any, author: str) -> bool:
    first: Any = next(iter(thread["comments"]), None)
    if thread.get("isDeleted") or not first or first.get("isDeleted"):
        return False
    return bool(first["author"]["id"] == author)


def _explain(project: str, repository: str) -> Callable[[int, str, Doing], str]:
    def explain(status: int, reason: str, doing: Doing) -> str:
        if status in (203, 401) or 300 <= status < 400:
            return (
                "SYSTEM_ACCESSTOKEN: Azure DevOps does not accept it; in the step, `env: "
                "SYSTEM_ACCESSTOKEN: $(System.AccessToken)` (the build of a fork has none)"
            )
        if status == 403:
            return (
                f"Azure DevOps: may not {doing.text} ({reason}); give the build service "
                f"'{doing.permission}' under Project settings, Repositories, Security"
            )
        if status == 404:
            return (
                f"Azure DevOps: could not {doing.text} in {project}/{repository} ({reason}); "
                "SYSTEM_TEAMPROJECT or BUILD_REPOSITORY_NAME is another, or the build service "
                "may not read it"
            )
        return f"Azure DevOps: could not {doing.text}: {reason}"

    return explain


def _ref(branch: str) -> str:
    return f"refs/heads/{branch}"
