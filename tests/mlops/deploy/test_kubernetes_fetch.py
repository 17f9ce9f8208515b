"""How pods fetch bundles: whole and verified, in pieces, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from mlops.contract import bundle
from tests.mlops.deploy import small
from tests.mlops.deploy.cloud import Answer, Call, Cloud
from tests.mlops.deploy.conftest import stored
from tests.mlops.deploy.kubernetes_objects import FOLDER


class Signed(Cloud):
    """DVC's remote over HTTP, behind a signature."""

    routes = ((r"GET /(files/md5/../.+)", "file"),)
    folder: Path

    def file(self, call: Call, place: str) -> Answer:
        signed = call.query == {"sv": "1", "sig": "made-up"}
        return Answer(200, (self.folder / place).read_bytes()) if signed else Answer(403)


def fetched(
    url: str, content: str, digest: str, target: Path, query: str = "", limits: Sequence[str] = ()
) -> tuple[int, str]:
    """Run the script as the init container does: nothing of this repository is there."""
    done = subprocess.run(
        [*limits, sys.executable, "-I", "-S", str(FOLDER / "base/fetch.py"), str(target)],
        check=False,
        env={"BUNDLE_STORE": url, "BUNDLE_CONTENT": content, "BUNDLE_DIGEST": digest,
             "BUNDLE_QUERY": query},
        capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_pod_fetches_the_bytes_that_are_pinned_with_a_signature_that_it_does_not_log(tmp_path):
    digest = small.made(tmp_path / "bundle", 1.0)
    content, target = stored(tmp_path / "bundle", tmp_path / "remote"), tmp_path / "target"
    target.mkdir()
    (target / "left").write_text("by an earlier try")
    line = f"bundle {digest[:12]}: fetched and verified\n"
    assert fetched((tmp_path / "remote").as_uri(), content, digest, target) == (0, line)
    assert bundle.digest(target) == digest
    with Signed() as server:
        server.folder = tmp_path / "remote"
        assert fetched(server.url, content, digest, target, "?sv=1&sig=made-up")[0] == 0
        code, line = fetched(server.url, content, digest, target, "sv=1&sig=other")
    assert (code, "403" in line, "other" in line) == (1, True, False)


def test_a_pod_fetches_a_bundle_larger_than_its_memory(tmp_path):
    (tmp_path / "bundle").mkdir()
    with (tmp_path / "bundle/model.onnx").open("wb") as file:
        file.truncate(300 * 2**20)
    digest = bundle.digest(tmp_path / "bundle")
    content, target = stored(tmp_path / "bundle", tmp_path / "remote"), tmp_path / "target"
    url, limits = (tmp_path / "remote").as_uri(), ("prlimit", f"--as={256 * 2**20}")
    assert fetched(url, content, digest, target, limits=limits)[0] == 0


@pytest.mark.parametrize("damage", ["other bytes", "a file is gone", "out of the folder"])
def test_a_pod_keeps_nothing_of_what_is_not_pinned(tmp_path, damage):
    digest = small.made(tmp_path / "bundle", 1.0)
    content, target = stored(tmp_path / "bundle", tmp_path), tmp_path / "target"
    listing = tmp_path / "files/md5" / content[:2] / content[2:]
    files = json.loads(listing.read_text())
    first = tmp_path / "files/md5" / files[0]["md5"][:2] / files[0]["md5"][2:]
    if damage == "other bytes":
        first.write_bytes(first.read_bytes() + b" ")
    elif damage == "a file is gone":
        first.unlink()
    else:
        files[0]["relpath"] = "../outside"
        listing.write_text(json.dumps(files))
    code, line = fetched(tmp_path.as_uri(), content, digest, target)
    assert (code, line.count("\n")) == (1, 1)
    assert line.startswith(f"bundle {digest[:12]}: ")
    assert list(target.iterdir()) == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.slow
@pytest.mark.nightly
def test_a_pod_reads_what_dvc_itself_pushed(tmp_path):
    folder, work = tmp_path / "remote", tmp_path / "work"
    digest = small.made(work / "bundle", 1.0)
    for arguments in (
        "init --no-scm -q", f"remote add -d remote {folder}", "add -q bundle", "push -q"
    ):  # fmt: skip
        command = [sys.executable, "-m", "dvc", *arguments.split()]
        subprocess.run(command, cwd=work, check=True, capture_output=True)
    content = yaml.safe_load((work / "bundle.dvc").read_text())["outs"][0]["md5"]
    assert fetched(folder.as_uri(), content, digest, tmp_path / "target")[0] == 0
