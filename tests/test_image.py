"""The service's image: what is in it, and that its steps, done without Docker, give a service."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pathspec
import pytest
from model_signing.signing import Config
from packaging.requirements import Requirement

from mlops.base.files import folder_digest
from mlops.base.processes import free_port
from tests import apart
from tests.conftest import REPOSITORY
from tests.repository_copy import listed
from tests.served import Served
from tests.signers import Sigstore, key_pair

FOLDER = REPOSITORY / "infra" / "serving"
NOT_INCLUDED = ["mlflow", "pandas", "pyarrow", "sklearn", "prefect", "pyspark", "dvc", "pip"]
# Import the whole service; print the files of all modules, and which of the names are not found.
IMPORTS = """
import importlib, importlib.util, json, pkgutil, sys
import mlops.serving, onnx, onnxruntime
for module in pkgutil.iter_modules(mlops.serving.__path__, "mlops.serving."):
    importlib.import_module(module.name)
files = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", 0)]
absent = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
print(json.dumps([files, absent]))
"""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with its arguments."""
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line]
    return [(instruction, rest) for instruction, rest in pairs]


# The last instruction of a kind is the one that holds.
DOCKERFILE = dict(instructions())


def context() -> set[str]:
    """The repository's files that .dockerignore lets into a build."""
    # Docker's patterns begin at the context's root, those of Git do at a slash.
    lines = re.sub(
        r"(?m)^(!?)(?=[^#!])", r"\1/", (REPOSITORY / ".dockerignore").read_text()
    ).splitlines()
    ignored = pathspec.PathSpec.from_lines("gitwildmatch", lines)
    names = [*listed(), "models/bundle/model.onnx", ".env", ".git/config"]
    return {name for name in names if not ignored.match_file(name)}


def test_the_image_copies_every_room_that_the_service_imports():
    copied = " ".join(rest for instruction, rest in instructions() if instruction == "COPY")
    code = "".join(file.read_text() for file in (REPOSITORY / "src/mlops/serving").glob("*.py"))
    rooms = set(re.findall(r"(?:from|import) mlops\.(\w+)", code))
    assert rooms
    assert {room for room in rooms if f"src/mlops/{room}/" not in copied} == set()


def test_only_code_and_the_lock_are_sent_to_a_build():
    outside = {name for name in context() if not name.startswith("src/mlops/")}
    assert outside == {"pyproject.toml", "infra/serving/requirements.lock"}


def test_nothing_is_built_on_a_base_without_a_digest():
    default = next(rest for instruction, rest in instructions() if instruction == "ARG")
    assert re.fullmatch(r"BASE=python:3\.11-slim[a-z-]*@sha256:([0-9a-f]{64})?", default)
    bases = {rest.split()[0] for instruction, rest in instructions() if instruction == "FROM"}
    assert bases == {"${BASE}"}
    check = next(rest for instruction, rest in instructions() if instruction == "RUN")
    for base, code in {"python:3.11": 2, "python@sha256:12": 0}.items():
        done = subprocess.run(["sh", "-c", check], env={"BASE": base}, capture_output=True)
        assert done.returncode == code


def test_signals_reach_the_service_which_is_not_root():
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", DOCKERFILE["USER"])
    assert DOCKERFILE["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(DOCKERFILE["ENTRYPOINT"])[:3] == ["python", "-m", "mlops.serving"]


@pytest.fixture(scope="module")
def image(finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's /service and /bundle in a folder: the lock's libraries, what COPY and RUN add."""
    root, build = tmp_path_factory.mktemp("image"), tmp_path_factory.mktemp("build")
    apart.environment(FOLDER / "requirements.lock", root / "service")
    for instruction, rest in instructions():
        words = rest.replace("/service/", f"{root}/service/")
        if instruction == "COPY" and "--from=" not in rest:
            source, target = words.split()
            names = [name for name in context() if name.startswith(source)]
            assert names, f"COPY {source}: .dockerignore leaves out all of it"
            for name in names:
                # Of a folder what lies in it, with the folders there.
                within = name.removeprefix(source) if source.endswith("/") else Path(name).name
                place = build / target / within
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, place)
        if instruction == "RUN" and rest.startswith("/service/"):
            subprocess.run(["sh", "-c", words], cwd=build, check=True)
    shutil.copytree(finished("wine").root / "models" / "bundle", root / "bundle")
    return root


def start(root: Path, command: list[str], **options) -> subprocess.Popen[str]:
    """Start a command of the image, with the image's environment and no other."""
    pairs = [pair.split("=") for pair in DOCKERFILE["ENV"].split()]
    env = {name: value.replace("/service/", f"{root}/service/") for name, value in pairs}
    env["PATH"] = env["PATH"].replace("${PATH}", os.defpath)
    program = shutil.which(command[0], path=env["PATH"])
    assert program == str(root / "service/bin" / command[0])
    return subprocess.Popen([program, *command[1:]], env=env, cwd=root, text=True, **options)


def run(root: Path, *command: str) -> str:
    """What a command of the image prints."""
    process = start(root, list(command), stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


@pytest.fixture
def running(image: Path, tmp_path: Path) -> Iterator[Served]:
    """The service that the image starts, once the image's own health check passes."""
    port, log = free_port(), tmp_path / "service.log"
    words = [*json.loads(DOCKERFILE["ENTRYPOINT"]), f"{image}{json.loads(DOCKERFILE['CMD'])[0]}"]
    with log.open("wb") as file:
        options = ["--host=127.0.0.1", f"--port={port}"]
        process = start(image, [*words, *options], stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while not healthy(image, port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield Served(process, port, log)
    finally:
        process.kill()
        process.wait()


def healthy(image: Path, port: int) -> bool:
    """Whether the image's own health check passes."""
    command = json.loads(re.sub(r"^.*?CMD ", "", DOCKERFILE["HEALTHCHECK"]))
    words = [word.replace("8080", str(port)) for word in command]
    return start(image, words, stderr=subprocess.DEVNULL).wait(60) == 0


@pytest.mark.nightly
def test_the_image_answers_without_writing_a_file_until_sigterm(image, running):
    def files():
        return {path: path.lstat().st_mtime for path in image.rglob("*")}

    before = files()
    example = json.loads((image / "bundle" / "bundle.json").read_text())["example"]
    answer = running.post("/predict", example)
    assert (answer.status, len(answer.json["predictions"])) == (200, 1)
    assert running.get("/v2").json["name"] == "mlops"
    assert running.get("/docs").status == 200
    assert healthy(image, running.port)
    assert not healthy(image, free_port())
    running.process.terminate()
    assert running.process.wait(30) in (0, -15)
    assert files() == before
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "telemetry" not in log


@pytest.mark.nightly
def test_all_that_the_service_imports_is_in_the_image(image):
    files, absent = json.loads(run(image, "python", "-c", IMPORTS, *NOT_INCLUDED))
    places = (str(image / "service"), f"{sys.base_prefix}/lib/python3.11")
    assert [file for file in files if not file.startswith(places)] == []
    assert absent == NOT_INCLUDED


@pytest.mark.nightly
def test_the_image_has_the_libraries_of_its_lock_and_no_other(image):
    code = "from importlib.metadata import distributions as d; print(*{i.name for i in d()})"
    names = run(image, "python", "-c", code).split()
    lock = (FOLDER / "requirements.lock").read_text()
    pins = map(Requirement, re.findall(r"^([a-z0-9-]+==[^\\\n]+)", lock, flags=re.MULTILINE))
    pinned = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert {name.lower().replace("_", "-") for name in names} == {*pinned, "mlops"}


@pytest.mark.nightly
def test_the_image_verifies_signatures_with_what_it_has(image, tmp_path):
    digest, file = folder_digest(image / "bundle"), tmp_path / "signature.json"
    private, public = key_pair(tmp_path, "ours")
    Config().use_elliptic_key_signer(private_key=private).sign(image / "bundle", file)
    verify = "from mlops.serving.signature import verify; from pathlib import Path"
    signer = (str(public), None, None, None)
    run(image, "python", "-c", f"{verify}; verify('{digest}', Path('{file}'), *{signer})")
    sigstore, who = Sigstore(), ("a@b.cd", "https://issuer.test")
    file.write_text(sigstore.sign(image / "bundle", *who))
    signer = (None, *who, str(sigstore.trust(tmp_path / "trust.json")))
    run(image, "python", "-c", f"{verify}; verify('{digest}', Path('{file}'), *{signer})")
