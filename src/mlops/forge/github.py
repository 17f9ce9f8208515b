"""GitHub, by its REST API (docs.github.com/rest, version 2022-11-28)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops.base.errors import UserError
from mlops.base.faults import Patience
from mlops.base.http import Client, Denied, Doing, Site, Token, once
from mlops.forge.forge import State, given, this_pull_request
from mlops.forge.upsert import Comment, cut, upsert

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
# Characters of a comment or a pull request's text, and of a status.
LONGEST, LONGEST_STATUS = 65_536, 140
WRITE = "pull-requests: write"
READ = "pull-requests: read"
FORBIDDEN = "not permitted to create or approve pull requests"


def connect(environment: Mapping[str, str], patience: Patience | None = None) -> GitHub:
    """The repository that the environment names, with its token.

    Raises UserError for one that can't be a token, or a name that is not OWNER/NAME.
    """
    repository = given(environment, "GITHUB_REPOSITORY")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"GITHUB_REPOSITORY: found {repository!r}, expected OWNER/NAME")
    url = given(environment, "GITHUB_API_URL") or "https://api.github.com"
    site = Site("GitHub", "GITHUB_API_URL", url.rstrip("/"), _explain(repository, url), HEADERS)
    token = Token("GITHUB_TOKEN", given(environment, "GITHUB_TOKEN"))
    client = Client(site, token, patience or Patience())
    return GitHub(client, repository, this_pull_request(environment), _run(environment, repository))


@dataclass(frozen=True)
class GitHub:
    """A repository on GitHub; `run` is the page of the CI run that speaks here."""

    client: Client = field(repr=False)
    repository: str
    this: int | None
    run: str | None

    def comment(self, pull_request: int, body: str, key: str) -> str:
        doing = Doing(f"comment on pull request {pull_request}", WRITE)
        return upsert(_Comments(self.client, self._root, pull_request, doing), body, key, LONGEST)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        doing = Doing(f"open a pull request from {branch} into {base}", WRITE)
        text = cut(body, LONGEST)

        def look() -> list[Any]:
            return self._open(f"{self._owner}:{branch}", doing, base=base)

        def create() -> Any:
            wanted = {"title": title, "body": text, "head": branch, "base": base}
            try:
                return self.client.send("POST", self._pulls, doing, again=False, json=wanted)
            except Denied as denied:
                # Another run was faster; GitHub has but one for two branches.
                if "already exists" in denied.reason:
                    self.client.doubt("it has one, but does not show it", doing)
                raise

        pull = once(look, create)[0]
        if (pull["title"], pull["body"]) != (title, text):
            new = {"title": title, "body": text}
            self.client.send("PATCH", f"{self._pulls}/{pull['number']}", doing, json=new)
        return str(pull["html_url"])

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        doing = Doing(f"set the status {context} of {commit[:12]}", "statuses: write")
        content = {"state": state, "context": context, "description": text[:LONGEST_STATUS]}
        link = {"target_url": self.run} if self.run else {}
        # Repeated, it says the same: the latest of a context counts.
        self.client.send("POST", f"{self._root}/statuses/{commit}", doing, json=content | link)

    def number(self, head: str | None) -> int | None:
        if head is None:
            return self.this
        full = head if ":" in head else f"{self._owner}:{head}"
        found = self._open(full, Doing(f"look for the pull request of {full}", READ))
        return int(found[0]["number"]) if found else None

    def _open(self, head: str, doing: Doing, **more: str) -> list[Any]:
        """The open pull requests of OWNER:BRANCH, the oldest first."""
        found = self.client.pages(self._pulls, doing, state="open", head=head, **more)
        # GitHub leaves out a filter that it can't read, and gives them all.
        own = [pull for pull in found if pull["head"]["label"].lower() == head.lower()]
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
    doing: Doing

    def own(self) -> list[Comment]:
        login = self._login()
        found = self.client.pages(self._path, self.doing)
        # A stranger's would lend our words to someone who can change them afterwards.
        return [self._comment(item) for item in found if _is_own(item.get("user"), login)]

    def create(self, body: str) -> Comment:
        wanted = {"body": body}
        made = self.client.send("POST", self._path, self.doing, again=False, json=wanted)
        return self._comment(made)

    def update(self, comment: Comment, body: str) -> None:
        self.client.send("PATCH", comment.place, self.doing, json={"body": body})

    def delete(self, comment: Comment) -> None:
        self.client.send("DELETE", comment.place, self.doing)

    def _login(self) -> str | None:
        """Who the token's owner is; an app's token, such as a workflow's, may not ask."""
        try:
            return str(self.client.send("GET", "/user", self.doing)["login"])
        except Denied as denied:
            if denied.status != 403:
                raise
            return None

    def _comment(self, item: Any) -> Comment:
        place = f"{self.root}/issues/comments/{item['id']}"
        return Comment(place, item["body"] or "", str(item["html_url"]))

    @property
    def _path(self) -> str:
        return f"{self.root}/issues/{self.number}/comments"


def _is_own(user: Any, login: str | None) -> bool:
    if not user:
        return False
    return bool(user["login"] == login if login else user["type"] == "Bot")


def _explain(repository: str, url: str) -> Callable[[int, str, Doing], str]:
    def explain(status: int, reason: str, doing: Doing) -> str:
        if status == 401:
            return f"GITHUB_TOKEN: {url} does not accept it ({reason}); it expired, or is another's"
        if status == 403 and FORBIDDEN in reason:
            return (
                "GitHub: a workflow may not open pull requests here; tick 'Allow GitHub Actions "
                "to create and approve pull requests' under Settings, Actions, General"
            )
        if status == 403:
            return (
                f"GitHub: may not {doing.text} ({reason}); the token needs "
                f"`permissions: {doing.permission}`"
            )
        if status == 404:
            return (
                f"GitHub: could not {doing.text} in {repository}: not found; GITHUB_REPOSITORY is "
                f"another, or the token does not see it (`permissions: {doing.permission}`)"
            )
        if 300 <= status < 400:
            return f"GITHUB_REPOSITORY: found {repository}, which has another name now"
        return f"GitHub: could not {doing.text}: {reason}"

    return explain


def _run(environment: Mapping[str, str], repository: str) -> str | None:
    server, run = given(environment, "GITHUB_SERVER_URL"), given(environment, "GITHUB_RUN_ID")
    return f"{server}/{repository}/actions/runs/{run}" if server and run else None
