"""The part of Azure DevOps' REST API 7.1 that is used (learn.microsoft.com/rest/api/azure)."""

from __future__ import annotations

from typing import Any

from tests.forge_state import NAME, OWNER, PROJECT, Answer, Call, Comment, Pull, State, Status

API = f"/{OWNER}/{PROJECT}/_apis/git/repositories/{NAME}"
LONGEST, LONGEST_TEXT, LISTED_TEXT = 150_000, 4_000, 400
STATES = ("notSet", "pending", "succeeded", "failed", "error", "notApplicable")
RIGHTS = {"pull-requests": "PullRequestContribute", "statuses": "GenericContribute"}
EXISTS = "TF401179: An active pull request for the source and target branch already exists."


def unknown(call: Call) -> Answer:
    """For an unknown token: a page to sign in, unless the request suppresses it."""
    if call.headers.get("X-TFS-FedAuthRedirect") != "Suppress":
        return Answer(302, "<html>Sign in</html>", Location="/_signin")
    text = "TF400813: The user '' is not authorized to access this resource."
    return Answer(401, {"message": text})


def forbidden(permission: str) -> Answer:
    """For a token without a permission."""
    right = RIGHTS.get(permission, permission)
    text = f"TF401027: You need the Git '{right}' permission to perform this action."
    return Answer(403, {"message": text})


def connection(_: State, call: Call) -> Answer:
    if "preview" not in call.query.get("api-version", ""):
        return Answer(400, {"message": "The requested version is under preview."})
    return Answer(200, {"authenticatedUser": {"id": _identity(call.who)}})


def list_threads(state: State, call: Call, pull: str) -> Answer:
    number = _number(state, call, pull)
    # A deleted comment leaves its thread behind.
    threads = [_thread(item) for item in reversed(state.comments) if item.pull == number]
    system = {"id": 1, "comments": [], "isDeleted": False}
    return Answer(200, {"value": [*threads, system], "count": len(threads) + 1})


def create_thread(state: State, call: Call, pull: str) -> Answer:
    number = _number(state, call, pull)
    state.may("pull-requests")
    text = _comment_text(call.body["comments"][0])
    return Answer(200, _thread(state.write(number, text, call.who)))


def change_comment(state: State, call: Call, pull: str, thread: str) -> Answer:
    _number(state, call, pull)
    state.may("pull-requests")
    comment = state.comment(int(thread))
    if comment.author != call.who:
        raise PermissionError("CommentAuthor")
    comment.body = _comment_text(call.body)
    return Answer(200, _thread(comment)["comments"][0])


def delete_comment(state: State, call: Call, pull: str, thread: str) -> Answer:
    _number(state, call, pull)
    state.may("pull-requests")
    state.comment(int(thread)).deleted = True
    return Answer(200)


def list_pulls(state: State, call: Call) -> Answer:
    _require_version(call)
    search = {key.rpartition(".")[2]: _branch(value) for key, value in call.query.items()}
    pulls = [
        _pull(pull, LISTED_TEXT)
        for pull in reversed(state.pulls)
        if pull.state == "open"
        and pull.branch == search.get("sourceRefName", pull.branch)
        and pull.base == search.get("targetRefName", pull.base)
    ]
    return Answer(200, {"value": pulls, "count": len(pulls)})


def create_pull(state: State, call: Call) -> Answer:
    _require_version(call)
    state.may("pull-requests")
    source, target = (_branch(call.body[key]) for key in ("sourceRefName", "targetRefName"))
    text = _description(call.body)
    if state.has(source, target):
        return Answer(409, {"message": EXISTS, "typeKey": "GitPullRequestExistsException"})
    return Answer(201, _pull(state.open(source, target, call.body["title"], text, OWNER, call.who)))


def change_pull(state: State, call: Call, number: str) -> Answer:
    _require_version(call)
    state.may("pull-requests")
    pull = state.pull(int(number))
    pull.title, pull.body = call.body["title"], _description(call.body)
    return Answer(200, _pull(pull))


def create_status(state: State, call: Call, commit: str) -> Answer:
    _require_version(call)
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
    (rf"POST {API}/commits/(\w+)/statuses", create_status),
]


def _number(state: State, call: Call, pull: str) -> int:
    _require_version(call)
    if int(pull) not in [item.number for item in state.pulls]:
        text = f"TF401180: The requested pull request {pull} was not found."
        raise Answer(404, {"message": text})
    return int(pull)


def _thread(item: Comment) -> Any:
    """Each comment is the first one of its own thread."""
    author = {"id": _identity(item.author)}
    comment = {"id": 1, "author": author, "content": item.body, "isDeleted": item.deleted}
    return {"id": item.id, "comments": [comment], "isDeleted": item.deleted}


def _pull(pull: Pull, longest: int | None = None) -> Any:
    fork = {"forkSource": {"name": f"refs/heads/{pull.branch}"}} if pull.owner != OWNER else {}
    return {
        "pullRequestId": pull.number,
        "status": "active" if pull.state == "open" else "completed",
        "title": pull.title,
        "description": pull.body[:longest],
        "sourceRefName": f"refs/heads/{pull.branch}",
        "targetRefName": f"refs/heads/{pull.base}",
        **fork,
    }


def _identity(name: str) -> str:
    return f"id-of-{name}"


def _branch(ref: str) -> str:
    return ref.removeprefix("refs/heads/")


def _comment_text(body: Any) -> str:
    return _limited(body["content"], LONGEST)


def _description(body: Any) -> str:
    return _limited(body["description"], LONGEST_TEXT)


def _limited(text: str, longest: int) -> str:
    # .NET counts what lies outside the basic plane as two.
    if len(text.encode("utf-16-le")) > 2 * longest:
        message = f"Invalid argument value.\r\nA text must not be longer than {longest} characters."
        raise Answer(400, {"message": message})
    return text


def _require_version(call: Call) -> None:
    if call.query.get("api-version") != "7.1":
        raise Answer(400, {"message": "No api-version was supplied."})
