"""The service's image: what is in it, and that its steps, done without Docker, give a service."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.dockerfile import UNPRIVILEGED, Build, context, steps
from tests.served import Served, free_port

FOLDER = REPOSITORY / "infra" / "serving"
# The last instruction of a kind is the one that holds.
DOCKERFILE = dict(steps(FOLDER / "Dockerfile"))
LIBRARY = Path("usr/local/lib/python3.11")
# Docker too passes these to a build, and pip has to know its package index.
PASSED = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
          "PIP_FIND_LINKS", "PIP_CERT")  # fmt: skip
OFFLINE = ("Failed to establish a new connection", "Temporary failure in name resolution")
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


def test_the_image_copies_every_room_that_the_service_imports():
    copied = " ".join(
        rest for instruction, rest in steps(FOLDER / "Dockerfile") if instruction == "COPY"
    )
    code = "".join(file.read_text() for file in (REPOSITORY / "src/mlops/serving").glob("*.py"))
    rooms = set(re.findall(r"(?:from|import) mlops\.(\w+)", code))
    assert rooms
    assert {room for room in rooms if f"src/mlops/{room}/" not in copied} == set()


def test_only_code_and_the_lock_are_sent_to_a_build():
    outside = {name for name in context(REPOSITORY) if not name.startswith("src/mlops/")}
    assert outside == {"pyproject.toml", "infra/serving/requirements.lock"}


def test_nothing_is_built_on_a_base_without_a_digest():
    instructions = steps(FOLDER / "Dockerfile")
    default = next(rest for instruction, rest in instructions if instruction == "ARG")
    assert re.fullmatch(r"BASE=python:3\.11-slim[a-z-]*@sha256:([0-9a-f]{64})?", default)
    assert {r.split()[0] for instruction, r in instructions if instruction == "FROM"} == {"${BASE}"}
    check = next(rest for instruction, rest in instructions if instruction == "RUN")
    for base, code in {"python:3.11": 2, "python@sha256:12": 0}.items():
        done = subprocess.run(["sh", "-c", check], env={"BASE": base}, capture_output=True)
        assert done.returncode == code


def test_signals_reach_the_service_which_is_not_root():
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", DOCKERFILE["USER"])
    assert DOCKERFILE["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(DOCKERFILE["ENTRYPOINT"])[:3] == ["python", "-m", "mlops.serving"]


@pytest.fixture(scope="module")
def image(finished) -> Iterator[Build]:
    """The image's file system in a folder that the service's user can't write to."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        loader = _install_base(root / "usr" / "local")
        build = Build(REPOSITORY, root, environment=dict(loader))
        build.arguments = {**loader, "BASE": "here@sha256:", "PIP_RETRIES": "1"}
        build.arguments |= {k: v for k, v in os.environ.items() if k.upper() in PASSED}
        for instruction, rest in steps(FOLDER / "Dockerfile"):
            try:
                build.do(instruction, rest)
            except subprocess.CalledProcessError as error:
                if any(sign in error.stderr for sign in OFFLINE) and not os.environ.get("CI"):
                    pytest.skip("no network: the image's libraries can't be installed")
                pytest.fail(f"{instruction} {rest}\n{error.stdout}{error.stderr}")
        build.folder = "/"
        shutil.copytree(finished("wine").root / "models" / "bundle", root / "bundle")
        if UNPRIVILEGED:
            subprocess.run(["chown", "-R", "0:0", root], check=True)
        subprocess.run(["chmod", "-R", "a-w,a+rX", folder], check=True)
        yield build
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)


def _install_base(place: Path) -> dict[str, str]:
    """Put this Python and its pip where the base image has them; the variables it needs."""
    library, base = place / "lib" / "python3.11", Path(sys.base_prefix)
    unneeded = shutil.ignore_patterns("__pycache__", "test", "tests", "config-*", "site-packages")
    shutil.copytree(base / "lib" / "python3.11", library, ignore=unneeded)
    (library / "site-packages").mkdir()
    for shared in (base / "lib").glob("libpython3.11.so*"):
        shutil.copy(shared, place / "lib")
    (place / "bin").mkdir()
    shutil.copy(base / "bin" / "python3.11", place / "bin")
    for name in ("python", "python3"):
        (place / "bin" / name).symlink_to("python3.11")
    # A Python that was built as a shared library.
    loader = {"LD_LIBRARY_PATH": str(place / "lib")}
    pip = [place / "bin" / "python3", "-m", "ensurepip"]
    subprocess.run(pip, env=loader, check=True, capture_output=True)
    return loader


@pytest.fixture(scope="module")
def running(image: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service that the image starts, once the image's own health check passes."""
    port, log = free_port(), tmp_path_factory.mktemp("image") / "service.log"
    words = json.loads(DOCKERFILE["ENTRYPOINT"]) + json.loads(DOCKERFILE["CMD"])
    command = [*map(image.below, words), "--host=127.0.0.1", f"--port={port}"]
    command[0] = shutil.which(words[0], path=image.environment["PATH"]) or ""
    assert Path(command[0]).is_relative_to(image.root)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=image.environment, cwd=image.root, stdout=file, stderr=file, **UNPRIVILEGED
        )
    try:
        deadline = time.monotonic() + 60
        while not healthy(image, port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield Served(process, port, log)
    finally:
        process.kill()
        process.wait()


def healthy(image: Build, port: int) -> bool:
    """Whether the image's own health check passes."""
    command = json.loads(re.sub(r"^.*?CMD ", "", DOCKERFILE["HEALTHCHECK"]))
    try:
        image.run([word.replace("8080", str(port)) for word in command], image.environment)
    except subprocess.CalledProcessError:
        return False
    return True


@pytest.mark.nightly
def test_the_image_answers_without_writing_a_file(image, running):
    def files():
        return {path: path.lstat().st_mtime for path in image.root.rglob("*")}

    before = files()
    example = json.loads((image.root / "bundle" / "bundle.json").read_text())["example"]
    answer = running.post("/predict", example)
    assert (answer.status, len(answer.json["predictions"])) == (200, 1)
    assert running.get("/v2").json["name"] == "mlops"
    assert running.get("/docs").status == 200
    assert files() == before


@pytest.mark.nightly
def test_the_health_check_follows_the_service(image, running):
    assert healthy(image, running.port)
    assert not healthy(image, free_port())


@pytest.mark.nightly
def test_all_that_the_service_imports_is_in_the_image(image):
    command = ["python", "-c", IMPORTS, *NOT_INCLUDED]
    files, absent = json.loads(image.run(command, image.environment))
    places = (str(image.root / "service"), str(image.root / LIBRARY))
    assert [file for file in files if not file.startswith(places)] == []
    assert absent == NOT_INCLUDED


@pytest.mark.nightly
def test_the_image_has_the_libraries_of_its_lock_and_no_other(image):
    code = "from importlib.metadata import distributions as d; print(*{i.name for i in d()})"
    names = image.run(["python", "-c", code], image.environment).split()
    lock = (FOLDER / "requirements.lock").read_text()
    pinned = re.findall(r"^([a-z0-9-]+)==", lock, flags=re.MULTILINE)
    assert {name.lower().replace("_", "-") for name in names} == {*pinned, "mlops"}


@pytest.mark.nightly
def test_sigterm_ends_the_service_without_an_error(image, running):
    running.process.terminate()
    assert running.process.wait(30) in (0, -15)
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "telemetry" not in log
