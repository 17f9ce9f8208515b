"""The part of Azure DevOps' REST API 7.1 that is used (learn.microsoft.com/rest/api/azure)."""

from __future__ import annotations

from typing import Any

from tests.forge_state import (
    MERGED,
    NAME,
    OPENED,
    OWNER,
    PROJECT,
    Answer,
    Call,
    Comment,
    Pull,
    State,
    Status,
)

API = f"/{OWNER}/{PROJECT}/_apis/git/repositories/{NAME}"
LONGEST, LONGEST_TEXT, LISTED_TEXT = 150_000, 4_000, 400
STATES = ("notSet", "pending", "succeeded", "failed", "error", "notApplicable")
RIGHTS = {
    "pull-requests": "PullRequestContribute", "statuses": "GenericContribute",
    "comment-author": "CommentAuthor",
}  # fmt: skip
VOTES = {"APPROVED": 10, "SUGGESTIONS": 5, "COMMENTED": 0, "CHANGES_REQUESTED": -10}
REF = "refs/heads/"
EXISTS = "TF401179: An active pull request for the source and target branch already exists."


def unknown(call: Call) -> Answer:
    """For an unknown token: a page to sign in, unless the request suppresses it."""
    if call.headers.get("X-TFS-FedAuthRedirect") != "Suppress":
        return Answer(302, "<html>Sign in</html>", Location="/_signin")
    text = "TF400813: The user '' is not authorized to access this resource."
    return Answer(401, {"message": text})


def forbidden(permission: str) -> Answer:
    """For a token without a permission."""
    text = f"TF401027: You need the Git '{RIGHTS[permission]}' permission to perform this action."
    return Answer(403, {"message": text})


def connection(_: State, call: Call) -> Answer:
    return Answer(200, {"authenticatedUser": {"id": f"id-of-{call.who}"}})


def list_threads(state: State, call: Call, pull: str) -> Answer:
    number = _number(state, pull)
    # A deleted comment leaves its thread behind.
    threads = [_thread(item) for item in reversed(state.comments) if item.pull == number]
    system = {"id": 1, "comments": [], "isDeleted": False}
    return Answer(200, {"value": [*threads, system], "count": len(threads) + 1})


def create_thread(state: State, call: Call, pull: str) -> Answer:
    number = _number(state, pull)
    state.may("pull-requests")
    text = _limited(call.body["comments"][0]["content"], LONGEST)
    return Answer(200, _thread(state.write(number, text, call.who)))


def change_comment(state: State, call: Call, pull: str, thread: str) -> Answer:
    _number(state, pull)
    state.may("pull-requests")
    comment = state.comment(int(thread))
    if comment.author != call.who:
        raise PermissionError("comment-author")
    comment.body = _limited(call.body["content"], LONGEST)
    return Answer(200, _thread(comment)["comments"][0])


def delete_comment(state: State, call: Call, pull: str, thread: str) -> Answer:
    _number(state, pull)
    state.may("pull-requests")
    state.comment(int(thread)).deleted = True
    return Answer(200)


def list_pulls(state: State, call: Call) -> Answer:
    search = {key.rpartition(".")[2]: v.removeprefix(REF) for key, v in call.query.items()}
    pulls = [
        _pull(pull, LISTED_TEXT)
        for pull in reversed(state.pulls)
        if pull.state == "open"
        and pull.branch == search.get("sourceRefName", pull.branch)
        and pull.base == search.get("targetRefName", pull.base)
    ]
    return Answer(200, {"value": pulls, "count": len(pulls)})


def create_pull(state: State, call: Call) -> Answer:
    state.may("pull-requests")
    keys = ("sourceRefName", "targetRefName")
    source, target = (call.body[key].removeprefix(REF) for key in keys)
    text = _limited(call.body["description"], LONGEST_TEXT)
    if state.has(source, target):
        return Answer(409, {"message": EXISTS, "typeKey": "GitPullRequestExistsException"})
    return Answer(201, _pull(state.open(source, target, call.body["title"], text, OWNER, call.who)))


def change_pull(state: State, call: Call, number: str) -> Answer:
    state.may("pull-requests")
    pull = state.pull(int(number))
    pull.title, pull.body = call.body["title"], _limited(call.body["description"], LONGEST_TEXT)
    return Answer(200, _pull(pull))


def query_pulls(state: State, call: Call) -> Answer:
    [query] = call.body["queries"]
    assert query["type"] == "lastMergeCommit"
    found = {commit: [_pull(pull) for pull in state.pulls if pull.commit == commit]
             for commit in query["items"]}  # fmt: skip
    return Answer(200, {"results": [{commit: pulls for commit, pulls in found.items() if pulls}]})


def create_status(state: State, call: Call, commit: str) -> Answer:
    state.may("statuses")
    if call.body["state"] not in STATES:
        return Answer(400, {"message": f"{call.body['state']} is no state"})
    context = "/".join(call.body["context"][key] for key in ("genre", "name"))
    text, link = call.body["description"], call.body.get("targetUrl")
    state.statuses.append(Status(commit, call.body["state"], context, text, link))
    return Answer(201, {"id": len(state.statuses)})


COMMENT = rf"{API}/pullRequests/(\d+)/threads/(\d+)/comments/1"
ROUTES = [
    (f"GET /{OWNER}/_apis/connectionData", connection),
    (rf"GET {API}/pullRequests/(\d+)/threads", list_threads),
    (rf"POST {API}/pullRequests/(\d+)/threads", create_thread),
    (f"PATCH {COMMENT}", change_comment),
    (f"DELETE {COMMENT}", delete_comment),
    (f"GET {API}/pullrequests", list_pulls),
    (f"POST {API}/pullrequests", create_pull),
    (rf"PATCH {API}/pullrequests/(\d+)", change_pull),
    (f"POST {API}/pullrequestquery", query_pulls),
    (rf"POST {API}/commits/(\w+)/statuses", create_status),
]


def _number(state: State, pull: str) -> int:
    if int(pull) not in [item.number for item in state.pulls]:
        text = f"TF401180: The requested pull request {pull} was not found."
        raise Answer(404, {"message": text})
    return int(pull)


def _thread(item: Comment) -> Any:
    """Each comment is the first one of its own thread."""
    author = {"id": f"id-of-{item.author}"}
    comment = {"id": 1, "author": author, "content": item.body, "isDeleted": item.deleted}
    return {"id": item.id, "comments": [comment], "isDeleted": item.deleted}


def _pull(pull: Pull, longest: int | None = None) -> Any:
    fork = {"forkSource": {"name": REF + pull.branch}} if pull.owner != OWNER else {}
    return {
        "pullRequestId": pull.number,
        "title": pull.title,
        "description": pull.body[:longest],
        "status": {"open": "active", "merged": "completed", "closed": "abandoned"}[pull.state],
        "creationDate": f"{OPENED}.1234567Z",
        **({} if pull.state == "open" else {"closedDate": f"{MERGED}.1234567Z"}),
        "reviewers": [
            {"displayName": "[flights]\\Reviewers", "vote": 10, "isContainer": True},
            *({"displayName": name, "vote": VOTES[verdict]} for name, verdict in pull.reviews),
        ],
        **fork,
    }


def _limited(text: str, longest: int) -> str:
    # .NET counts what lies outside the basic plane as two.
    if len(text.encode("utf-16-le")) > 2 * longest:
        message = f"Invalid argument value.\r\nA text must not be longer than {longest} characters."
        raise Answer(400, {"message": message})
    return text
