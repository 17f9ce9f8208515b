"""Azure DevOps, through its REST API (learn.microsoft.com/rest/api/azure/devops, version 7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from mlops.base.environment import given
from mlops.base.http import Client, Operation, Token
from mlops.forge.protocol import Merge, State
from mlops.forge.rest import OTHER, REDIRECT, Comment, RestForge, explanation

# With the second it answers a bad token with 401, and not with a page to sign in.
HEADERS = {"Accept": "application/json", "X-TFS-FedAuthRedirect": "Suppress"}
VERSION = {"api-version": "7.1"}
PREVIEW = {"api-version": "7.1-preview"}
STATES: dict[State, str] = {"pending": "pending", "success": "succeeded", "failure": "failed"}
# The vote "approved with suggestions"; 10 is without.
APPROVED = 5
BAD_TOKEN = (
    "SYSTEM_ACCESSTOKEN: Azure DevOps does not accept it; in the step, `env: "
    "SYSTEM_ACCESSTOKEN: $(System.AccessToken)` (the build of a fork has none)"
)
REFUSALS = {
    **dict.fromkeys((203, 401, REDIRECT), BAD_TOKEN),
    403: "Azure DevOps: may not {what} ({reason}); give the build service '{permission}' under "
    "Project settings, Repositories, Security",
    404: "Azure DevOps: could not {what} in {repository} ({reason}); SYSTEM_TEAMPROJECT or "
    "BUILD_REPOSITORY_NAME is another, or the build service may not read it",
    OTHER: "Azure DevOps: could not {what}: {reason}",
}


def connect(environment: Mapping[str, str], current_pull_request: int | None = None) -> AzureDevOps:
    """The repository that the environment names, with its token.

    Raises UserError for a malformed token.
    """
    url, project, repository = (
        given(environment, name).rstrip("/")
        for name in ("SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "BUILD_REPOSITORY_NAME")
    )
    explain = explanation(REFUSALS, repository=f"{project}/{repository}")
    # Unlike Bearer, Basic serves a pipeline's token and a person's alike.
    token = Token("SYSTEM_ACCESSTOKEN", given(environment, "SYSTEM_ACCESSTOKEN"), basic=True)
    client = Client("Azure DevOps", "SYSTEM_COLLECTIONURI", url, token, explain, HEADERS, VERSION)
    build = given(environment, "BUILD_BUILDID")
    run_url = f"{url}/{quote(project)}/_build/results?buildId={build}" if build else None
    root = f"/{quote(project)}/_apis/git/repositories/{quote(repository)}"
    page = f"{url}/{quote(project)}/_git/{quote(repository)}/pullrequest"
    return AzureDevOps(client, current_pull_request, run_url, root, page)


class AzureDevOps(RestForge):
    """A repository on Azure DevOps."""

    longest_comment, longest_text = 150_000, 4_000
    comment_key, text_key = "content", "description"
    number_key, source_key, target_key = "pullRequestId", "sourceRefName", "targetRefName"
    ref = "refs/heads/"
    pulls, exists = "pullrequests", "TF401179"
    permission, read_permission = "Contribute to pull requests", "Read"

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
        path = f"{self.root}/commits/{commit}/statuses"
        self.client.send("POST", path, operation, json=content | link)

    def merged(self, commit: str) -> Merge | None:
        operation = Operation(f"look for the merge of {commit[:12]}", self.read_permission)
        query = {"queries": [{"type": "lastMergeCommit", "items": [commit]}]}
        path = f"{self.root}/pullrequestquery"
        [found] = self.client.send("POST", path, operation, json=query)["results"]
        pull = next((one for one in found.get(commit, []) if one["status"] == "completed"), None)
        if pull is None:
            return None
        # A group votes with its members.
        approved = tuple(one["displayName"] for one in pull.get("reviewers", [])
                         if one["vote"] >= APPROVED and not one.get("isContainer"))  # fmt: skip
        opened, merged = (datetime.fromisoformat(pull[k]) for k in ("creationDate", "closedDate"))
        return Merge(opened, merged, approved)

    def _open_pulls(self, head: str, operation: Operation, base: str | None = None) -> list[Any]:
        """Only those of branches of this repository; an OWNER before the branch is ignored."""
        search = {"status": "active", self.source_key: self.ref + head.rpartition(":")[2]}
        if base:
            search[self.target_key] = self.ref + base
        parameters = {f"searchCriteria.{name}": value for name, value in search.items()}
        path = f"{self.root}/{self.pulls}"
        pulls = self.client.send("GET", path, operation, params=parameters)["value"]
        # A fork may have a branch of the same name.
        return [pull for pull in pulls if not pull.get("forkSource")]

    def _own_comments(self, pull_request: int, operation: Operation) -> list[Comment]:
        path = "/_apis/connectionData"
        user = self.client.send("GET", path, operation, params=PREVIEW)["authenticatedUser"]
        path = f"{self.root}/pullRequests/{pull_request}/threads"
        threads = self.client.send("GET", path, operation)["value"]
        own = [thread for thread in threads if _is_own(thread, user["id"])]
        own.sort(key=lambda thread: int(thread["id"]))
        return [self._comment(pull_request, thread) for thread in own]

    def _create_comment(self, pull_request: int, text: str, operation: Operation) -> Comment:
        # Without a status: an active thread has to be resolved by hand, a closed one is folded.
        content = {"comments": [{"parentCommentId": 0, "content": text, "commentType": "text"}]}
        path = f"{self.root}/pullRequests/{pull_request}/threads"
        return self._comment(pull_request, self.client.create(path, operation, content))

    def _comment(self, pull_request: int, thread: Any) -> Comment:
        """Each comment is the first one of its own thread."""
        first, number = thread["comments"][0], thread["id"]
        path = f"{self.root}/pullRequests/{pull_request}/threads/{number}/comments/{first['id']}"
        url = f"{self.page}/{pull_request}?discussionId={number}"
        return Comment(path, first.get("content") or "", url)


def _is_own(thread: Any, author: str) -> bool:
    first: Any = next(iter(thread["comments"]), {"isDeleted": True})
    deleted = thread.get("isDeleted") or first.get("isDeleted")
    return not deleted and bool(first["author"]["id"] == author)
