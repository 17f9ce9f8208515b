"""The part of GitHub's REST API that is used (docs.github.com/rest)."""

from __future__ import annotations

import base64
from typing import Any

from tests.forge_state import (
    MERGED,
    NAME,
    OPENED,
    OWNER,
    ROBOT,
    Answer,
    Call,
    Comment,
    Pull,
    State,
    Status,
)

API = f"/api/v3/repos/{OWNER}/{NAME}"
LONGEST, LONGEST_STATUS = 65_536, 140
NOT_ALLOWED = "GitHub Actions is not permitted to create or approve pull requests."


def unknown(_: Call) -> Answer:
    """For an unknown token."""
    return Answer(401, {"message": "Bad credentials"})


def forbidden(_: str) -> Answer:
    """For a token without a permission; GitHub doesn't name it."""
    return Answer(403, {"message": "Resource not accessible by integration"})


def user(_: State, call: Call) -> Answer:
    return forbidden("") if call.who == ROBOT else Answer(200, _user(call.who))


def list_comments(state: State, call: Call, pull: str) -> Answer:
    comments = state.on(state.pull(int(pull)).number)
    return _page(state, call, [_comment(state, item) for item in comments])


def create_comment(state: State, call: Call, pull: str) -> Answer:
    number = state.pull(int(pull)).number
    state.may("pull-requests")
    text = _limited(call.body, "body", LONGEST)
    return Answer(201, _comment(state, state.write(number, text, call.who)))


def change_comment(state: State, call: Call, number: str) -> Answer:
    state.may("pull-requests")
    comment = state.comment(int(number))
    comment.body = _limited(call.body, "body", LONGEST)
    return Answer(200, _comment(state, comment))


def delete_comment(state: State, _: Call, number: str) -> Answer:
    state.may("pull-requests")
    state.comment(int(number)).deleted = True
    return Answer(204)


def list_pulls(state: State, call: Call) -> Answer:
    if state.moved:
        return Answer(301, {"message": "Moved Permanently"}, Location=f"{state.url}/elsewhere")
    owner, _, branch = call.query.get("head", "").partition(":")
    pulls = [
        pull
        for pull in reversed(state.pulls)
        # A head that can't be read is not an error: it filters nothing.
        if (not (owner and branch) or (pull.owner.lower(), pull.branch) == (owner.lower(), branch))
        and pull.state == call.query.get("state", "open")
        and pull.base == call.query.get("base", pull.base)
    ]
    return _page(state, call, [_pull(state, pull) for pull in pulls])


def create_pull(state: State, call: Call) -> Answer:
    state.may("pull-requests")
    if not state.may_open:
        return Answer(403, {"message": NOT_ALLOWED})
    head, base = call.body["head"], call.body["base"]
    text = _limited(call.body, "body", LONGEST)
    if state.has(head, base):
        return _invalid(f"A pull request already exists for {OWNER}:{head}.")
    if head == base:
        return _invalid(f"No commits between {base} and {head}")
    pull = state.open(head, base, call.body["title"], text, OWNER, call.who)
    return Answer(201, _pull(state, pull))


def change_pull(state: State, call: Call, number: str) -> Answer:
    state.may("pull-requests")
    pull = state.pull(int(number))
    pull.title, pull.body = call.body["title"], _limited(call.body, "body", LONGEST)
    return Answer(200, _pull(state, pull))


def list_files(state: State, call: Call, number: str) -> Answer:
    keys = ("filename", "previous_filename")
    files = [dict(zip(keys, names, strict=False)) for names in state.pull(int(number)).files]
    return _page(state, call, [{**file, "sha": file["filename"].encode().hex()} for file in files])


def read_blob(state: State, _: Call, blob: str) -> Answer:
    content = state.contents.get(bytes.fromhex(blob).decode())
    if content is None:
        return Answer(404, {"message": "Not Found"})
    return Answer(200, {"content": base64.encodebytes(content).decode(), "encoding": "base64"})


def list_pulls_of(state: State, call: Call, commit: str) -> Answer:
    # Those that only contain it are listed too.
    pulls = sorted(state.pulls, key=lambda pull: pull.commit == commit)
    return _page(state, call, [_pull(state, pull) for pull in pulls])


def list_reviews(state: State, call: Call, number: str) -> Answer:
    reviews = state.pull(int(number)).reviews
    content = [{"user": _user(name), "state": verdict} for name, verdict in reviews]
    return _page(state, call, content)


def create_status(state: State, call: Call, commit: str) -> Answer:
    state.may("statuses")
    text = _limited(call.body, "description", LONGEST_STATUS)
    name, context, link = (call.body.get(key) for key in ("state", "context", "target_url"))
    if name not in ("error", "failure", "pending", "success"):
        return _invalid(f"{name} is no state")
    state.statuses.append(Status(commit, name, context, text, link))
    return Answer(201, {"id": len(state.statuses)})


ROUTES = [
    ("GET /api/v3/user", user),
    (rf"GET {API}/issues/(\d+)/comments", list_comments),
    (rf"POST {API}/issues/(\d+)/comments", create_comment),
    (rf"PATCH {API}/issues/comments/(\d+)", change_comment),
    (rf"DELETE {API}/issues/comments/(\d+)", delete_comment),
    (f"GET {API}/pulls", list_pulls),
    (f"POST {API}/pulls", create_pull),
    (rf"PATCH {API}/pulls/(\d+)", change_pull),
    (rf"GET {API}/pulls/(\d+)/files", list_files),
    (rf"GET {API}/git/blobs/(\w+)", read_blob),
    (rf"GET {API}/commits/(\w+)/pulls", list_pulls_of),
    (rf"GET {API}/pulls/(\d+)/reviews", list_reviews),
    (rf"POST {API}/statuses/(\w+)", create_status),
]


def _page(state: State, call: Call, items: list[Any]) -> Answer:
    size, page = (int(call.query.get(key, n)) for key, n in (("per_page", 30), ("page", 1)))
    link = {"Link": f'<{state.url}/next?page={page + 1}>; rel="next"'}
    part = items[(page - 1) * size : page * size]
    return Answer(200, part, **(link if len(items) > page * size else {}))


def _comment(state: State, item: Comment) -> Any:
    url = f"{state.url}/{OWNER}/{NAME}/pull/{item.pull}#issuecomment-{item.id}"
    return {"id": item.id, "body": item.body, "user": _user(item.author), "html_url": url}


def _pull(state: State, pull: Pull) -> Any:
    return {
        "number": pull.number,
        "title": pull.title,
        "body": pull.body or None,
        "head": {"label": f"{pull.owner}:{pull.branch}"},
        "html_url": f"{state.url}/{OWNER}/{NAME}/pull/{pull.number}",
        "created_at": f"{OPENED}Z",
        "merged_at": f"{MERGED}Z" if pull.state == "merged" else None,
        # Of an open one it is that of a merge that was tried.
        "merge_commit_sha": pull.commit or "0" * 40,
    }


def _user(name: str) -> Any:
    return {"login": name, "type": "Bot" if name.endswith("[bot]") else "User"}


def _limited(body: Any, name: str, longest: int) -> str:
    if len(body[name]) > longest:
        raise _invalid(f"{name} is too long (maximum is {longest} characters)")
    return str(body[name])


def _invalid(message: str) -> Answer:
    errors = [{"code": "custom", "message": message}]
    return Answer(422, {"message": "Validation Failed", "errors": errors})
