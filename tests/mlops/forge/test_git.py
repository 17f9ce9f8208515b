"""Commits are written without touching the workspace, and pushed only onto what was expected."""

import base64
import os
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from mlops.base.errors import UserError
from mlops.forge import branches, git

FILE = Path("folder/file.txt")
WORD = "s3cret"


@pytest.fixture
def root(tmp_path):
    remote, root = tmp_path / "remote.git", tmp_path / "clone"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
    subprocess.run(["git", "clone", "-q", remote, root], check=True, capture_output=True)
    for name, value in {"user.name": "A Tester", "user.email": "a@b.cd"}.items():
        git.git(root, "config", name, value)
    git.git(root, "switch", "--quiet", "--create", "main")
    (root / "kept.txt").write_text("kept\n")
    git.git(root, "add", ".")
    git.git(root, "commit", "--quiet", "--message", "start")
    git.git(root, "push", "--quiet", "origin", "main")
    return root


def test_a_commit_is_written_without_touching_workspace_or_index(root):
    (root / "kept.txt").write_text("being edited\n")
    before = git.git(root, "status", "--porcelain"), git.commit(root, "HEAD")
    made = branches.write(root, "HEAD", {FILE: b"new\n"}, "A change\n\nwhy\n")
    assert (git.git(root, "status", "--porcelain"), git.commit(root, "HEAD")) == before
    assert git.show(root, made, FILE) == "new\n"
    assert git.show(root, made, Path("kept.txt")) == "kept\n"
    assert git.git(root, "log", "-1", "--format=%s|%an", made).strip() == "A change|A Tester"


def test_a_file_that_is_not_at_a_commit_is_none_and_no_commit_an_error_in_one_line(root):
    assert git.show(root, "HEAD", FILE) is None
    with pytest.raises(UserError, match="nowhere: no such commit here"):
        git.show(root, "nowhere", FILE)
    assert not git.exists(root, "nowhere")


def test_a_push_onto_what_was_expected_succeeds_and_onto_anything_else_fails(root):
    first = branches.write(root, "HEAD", {FILE: b"1\n"}, "first")
    second = branches.write(root, "HEAD", {FILE: b"2\n"}, "second")
    branches.push(root, first, "release/x", expected="")
    with pytest.raises(git.GitError):
        branches.push(root, second, "release/x", expected="")
    assert branches.head(root, "release/x") == first
    branches.push(root, second, "release/x", expected=first)
    assert branches.head(root, "release/x") == second


def test_the_changes_of_a_file_come_newest_first_and_uncommitted_ones_are_named(root):
    for number in range(2):
        (root / "kept.txt").write_text(f"{number}\n")
        git.git(root, "commit", "--quiet", "--all", "--message", f"change {number}")
    subjects = [change.subject for change in git.changes(root, "HEAD", Path("kept.txt"))]
    assert subjects == ["change 1", "change 0", "start"]
    (root / "kept.txt").write_text("edited\n")
    (root / "new.txt").write_text("new\n")
    assert git.changed(root) == ["kept.txt"]


@pytest.fixture
def who(tmp_path, monkeypatch):
    """Write a person's own Git settings, which replace those of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def write(*settings: str) -> None:
        lines = [f"[{section}]\n\t{line}\n" for section, line in (s.split(": ") for s in settings)]
        (tmp_path / ".gitconfig").write_text("".join(lines))

    return write


@pytest.fixture
def other(tmp_path):
    """Another repository, with a commit of its own."""
    folder = tmp_path / "other"
    subprocess.run(["git", "init", "-q", folder], check=True)
    commands = (["add", "."], ["commit", "-qm", "other"])
    (folder / "theirs.txt").write_text("theirs\n")
    for words in commands:
        git.git(folder, *words, env=branches.IDENTITY)
    return folder


def test_a_hooks_environment_does_not_lead_to_another_repository(root, other, monkeypatch):
    mine = git.commit(root, "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    assert git.commit(root, "HEAD") == mine
    assert git.described(root) == mine
    assert git.changed(root) == []


def test_a_persons_hooks_signatures_and_colours_stay_out(root, who, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "pre-push"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    who(f"core: hooksPath = {hooks}", "commit: gpgSign = true", "push: gpgSign = true",
        "user: signingKey = DEADBEEF", "log: showSignature = true", "color: ui = always",
        "push: followTags = true")  # fmt: skip
    made = branches.write(root, "HEAD", {FILE: b"new\n"}, "A change")
    branches.push(root, made, "release/x", expected="")
    git.git(root, "checkout", "--quiet", "--detach", made)
    assert branches.head(root, "release/x") == made
    assert [change.commit for change in git.changes(root, made, FILE)] == [made]


@pytest.mark.parametrize(
    "settings",
    [(), ("user: name = A",), ("user: email = a@b.cd", "user: useConfigOnly = true")],
)
def test_a_person_without_a_whole_identity_commits_as_the_bot(root, who, settings):
    who(*settings)
    for name in ("user.name", "user.email"):
        git.git(root, "config", "--unset", name)
    made = branches.write(root, "HEAD", {FILE: b"new\n"}, "A change")
    assert git.git(root, "log", "-1", "--format=%an", made).strip() == branches.BOT


def test_the_remote_says_which_branch_is_the_main_one(tmp_path, root):
    git.git(root, "push", "--quiet", "origin", "HEAD:trunk")
    git.git(root, "push", "--quiet", "origin", "HEAD:release/x")
    subprocess.run(["git", "-C", tmp_path / "remote.git", "symbolic-ref", "HEAD",
                    "refs/heads/trunk"], check=True)  # fmt: skip
    git.git(root, "update-ref", "-d", "refs/remotes/origin/trunk")
    assert git.main_branch(root) == "trunk"
    assert git.commit(root, git.base(root)) == git.commit(root, "HEAD") == git.tip(root)


def test_a_remote_that_is_away_leaves_what_the_clone_was_told(tmp_path, root):
    git.git(root, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
    (tmp_path / "remote.git").rename(tmp_path / "away.git")
    assert git.main_branch(root) == "trunk"
    with pytest.raises(UserError, match=r"^trunk: not here, and git fetch: .*; say --base REF$"):
        git.base(root)


def test_a_remote_of_any_name_is_found_and_two_without_an_origin_are_refused(root, who):
    git.git(root, "remote", "rename", "origin", "upstream")
    made = branches.write(root, "HEAD", {FILE: b"new\n"}, "A change")
    branches.push(root, made, "release/x", expected="")
    assert branches.head(root, "release/x") == made
    assert git.base(root) == "refs/remotes/upstream/main"
    git.git(root, "remote", "add", "fork", "nowhere")
    with pytest.raises(UserError, match="git remote: found fork, upstream; expected one of them"):
        git.base(root)
    for name in ("fork", "upstream"):
        git.git(root, "remote", "remove", name)
    who('remote "origin": fetch = +refs/pull/*/head:refs/remotes/origin/pr/*')
    assert git.remote(root) == branches.head(root, "release/x") == ""
    assert git.base(root) == "HEAD"


def test_a_project_in_a_folder_of_its_repository_is_read_and_written_there(root):
    project = root / "models/déjà vu [1]"
    project.mkdir(parents=True)
    (project / "kept.txt").write_text("the project's\n")
    git.git(root, "add", ".")
    git.git(root, "commit", "--quiet", "--message", "a project")
    made = branches.write(
        project, "HEAD", {Path("kept.txt"): b"changed\n", FILE: b"new\n"}, "A change"
    )
    assert git.git(root, "diff", "--name-only", "-z", "HEAD", made).split("\0")[:-1] == [
        "models/déjà vu [1]/folder/file.txt", "models/déjà vu [1]/kept.txt",
    ]  # fmt: skip
    assert git.show(project, made, Path("kept.txt")) == "changed\n"
    assert [c.subject for c in git.changes(project, made, Path("kept.txt"))] == [
        "A change", "a project",
    ]  # fmt: skip
    (root / "kept.txt").write_text("not the project's\n")
    (project / "kept.txt").write_text("edited\n")
    assert git.changed(project) == ["kept.txt"]


def test_a_shallow_clone_says_what_it_lacks(root, tmp_path):
    first = git.commit(root, "HEAD")
    (root / "other.txt").write_text("x\n")
    git.git(root, "add", ".")
    git.git(root, "commit", "--quiet", "--message", "second")
    git.git(root, "push", "--quiet", "origin", "main")
    shallow = tmp_path / "shallow"
    source = f"file://{tmp_path / 'remote.git'}"
    subprocess.run(["git", "clone", "-q", "--depth", "1", source, shallow], check=True)
    cure = "the clone is shallow and lacks earlier commits; `git fetch --unshallow`"
    with pytest.raises(UserError, match=f"^kept.txt: {cure}$"):
        git.changes(shallow, "HEAD", Path("kept.txt"))
    with pytest.raises(UserError, match=f"^{first}: no such commit here; {cure}$"):
        git.commit(shallow, first)
    git.git(shallow, "fetch", "--quiet", "--unshallow")
    assert [c.subject for c in git.changes(shallow, "HEAD", Path("kept.txt"))] == ["start"]


def test_a_folder_that_git_does_not_know_has_no_commit(root, tmp_path):
    (root / "ours").mkdir()
    assert git.described(root / "ours") == git.described(tmp_path) == "unknown"
    (root / "kept.txt").write_text("edited\n")
    assert git.described(root) == f"{git.commit(root, 'HEAD')}-dirty"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("command", ["diff", "log", "ls-files"])
def test_a_folder_without_a_repository_is_said_so_by_every_command(tmp_path, command):
    with pytest.raises(git.GitError) as refused:
        git.git(tmp_path, command, "--name-only" if command != "ls-files" else "--cached")
    assert str(refused.value) == f"{tmp_path}: not in a Git repository; `git init` makes one"


def test_a_clone_of_another_user_is_refused_with_the_cure(root):
    os.chown(root, 12345, 12345)
    with pytest.raises(UserError, match=r"dubious ownership .* safe\.directory"):
        git.described(root)


def test_a_text_that_is_not_utf_8_is_one_line(root):
    made = branches.write(root, "HEAD", {FILE: "é".encode("latin-1")}, "A change")
    with pytest.raises(UserError, match="file.txt at .*: not UTF-8; save the file as UTF-8"):
        git.show(root, made, FILE)
    windows = branches.write(root, "HEAD", {FILE: b"a\r\nb\r\n"}, "A change")
    assert git.show(root, windows, FILE) == "a\r\nb\r\n"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (f"https://me:{WORD}@host.invalid/a.git", "https://host.invalid/a.git"),
        ("git@host.invalid:team/a.git", "git@host.invalid:team/a.git"),
    ],
)
def test_credentials_stay_out_of_addresses_and_messages(root, url, address):
    git.git(root, "remote", "set-url", "origin", url)
    assert git.address(root) == address
    if WORD in url:
        with pytest.raises(UserError) as refused:
            git.tip(root)
        assert WORD not in str(refused.value)


def test_a_relative_remote_is_named_from_everywhere(root, tmp_path):
    git.git(root, "remote", "set-url", "origin", "../remote.git")
    assert git.address(root) == str(tmp_path / "remote.git")
    git.git(root, "remote", "remove", "origin")
    assert git.address(root) == str(root)


# Branches that several write.


def test_a_folder_comes_back_byte_for_byte_whatever_settings_say_of_line_ends(root):
    files = {Path("folder/a.bin"): bytes(range(256)), Path("folder/deep/b.txt"): b"1\r\n2\n"}
    git.git(root, "config", "core.autocrlf", "true")
    made = branches.write(
        root, "", {**files, Path("folder2/c"): b"", Path(".gitattributes"): b"* text"}, "x"
    )
    assert git.git(root, "rev-list", "--count", made).strip() == "1"
    found = branches.folder_at(root, made, Path("folder"))
    assert {Path("folder") / name: content for name, content in found.items()} == files
    assert branches.folder_at(root, made, Path("nowhere")) == {}


def test_a_folder_with_names_that_lead_out_of_it_is_refused(root):
    blob = git.git(root, "hash-object", "-w", "--stdin", stdin=b"evil").strip()

    def tree(name, kind, object_id):
        entry = f"{kind} {name}\0".encode() + bytes.fromhex(object_id)
        return git.git(
            root, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=entry
        ).strip()

    out = tree("folder", "40000", tree("..", "40000", tree("file", "100644", blob)))
    made = git.git(root, "commit-tree", out, stdin=b"x").strip()
    with pytest.raises(UserError, match="found no plain file"):
        branches.folder_at(root, made, Path("folder"))


def test_what_another_pushes_meanwhile_is_kept_and_built_upon(root):
    heads = []

    def make(head):
        heads.append(head)
        if len(heads) == 1:
            branches.push(root, branches.write(root, "", {FILE: b"theirs"}, "theirs"), "kept", head)
        return branches.write(root, head, {Path("ours"): b"ours"}, "ours")

    made = branches.update(root, "kept", make)
    assert heads[0] == ""
    assert git.git(root, "rev-parse", f"{made}^").strip() == heads[1] != ""
    assert branches.head(root, "kept") == made
    assert git.show(root, made, FILE) == "theirs"


def test_without_a_remote_the_branch_is_updated_here(root):
    git.git(root, "remote", "remove", "origin")
    for number in range(2):
        file = {Path(str(number)): b""}
        made = branches.update(
            root, "kept", lambda head, file=file: branches.write(root, head, file, "more")
        )
        assert branches.head(root, "kept") == made
    assert git.show(root, made, Path("0")) == ""


class Recorder(BaseHTTPRequestHandler):
    """A server that knows no repository, and keeps how it was asked."""

    asked: ClassVar = []

    def do_GET(self):
        self.asked.append(self.headers.get("Authorization"))
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("token", "server"),
    [("GITHUB_TOKEN", "GITHUB_SERVER_URL"), ("SYSTEM_ACCESSTOKEN", "SYSTEM_COLLECTIONURI")],
)
def test_a_job_s_token_is_sent_to_its_own_forge_and_is_in_no_file(root, monkeypatch, token, server):
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{http.server_port}"
        Recorder.asked.clear()
        git.git(root, "remote", "set-url", "origin", f"{url}/acme/flights.git")
        monkeypatch.setenv(token, WORD)
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Somebody")
        for own in (url, f"{url}/", "https://elsewhere.invalid"):
            monkeypatch.setenv(server, own)
            with pytest.raises(git.GitError, match="not found"):
                git.git(root, "ls-remote", "origin")
        http.shutdown()
    assert [bool(header) for header in Recorder.asked] == [True, True, False]
    login = base64.b64decode(Recorder.asked[0].removeprefix("basic ")).decode()
    assert login == f"x-access-token:{WORD}"
    assert WORD not in (root / ".git/config").read_text()
    assert git.git(root, "config", "user.name").strip() == "Somebody"
