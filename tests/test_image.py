"""The service's image: what is in it, and that its steps, done without Docker, give a service."""

from __future__ import annotations

import ast
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

from tests.dockerfile import NOBODY, Build, Step, context, listed, steps
from tests.served import Served, free_port

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = REPOSITORY / "infra" / "serving" / "Dockerfile"
LOCK = REPOSITORY / "infra" / "serving" / "requirements.lock"
SERVICE = "mlops.serving.__main__"
# What Docker too hands to a build without being told, and what says where packages come from.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
PASSED = (*PROXIES, "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT")
# What pip says when nobody answers.
OFFLINE = ("Failed to establish a new connection", "Temporary failure in name resolution")

# Import what the first line names, say where each module lies and which of the second are absent.
IMPORTS = """
import importlib, importlib.util, json, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
files = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", 0)]
absent = [name for name in sys.argv[2].split() if importlib.util.find_spec(name) is None]
print(json.dumps([files, absent]))
"""
ELSEWHERE = [
    "mlflow",
    "pandas",
    "pyarrow",
    "sklearn",
    "prefect",
    "pyspark",
    "dvc",
    "pip",
    "flights",
]


def tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [name for name in listing.stdout.splitlines() if (REPOSITORY / name).exists()]


def closure(name: str, seen: dict[str, Path]) -> dict[str, Path]:
    """The files below src/mlops that a module imports, with theirs."""
    base = REPOSITORY / "src" / name.replace(".", "/")
    found = [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()]
    if name in seen or not found or not name.startswith("mlops"):
        return seen
    seen[name] = found[0]
    closure(name.rpartition(".")[0], seen)
    for node in ast.walk(ast.parse(found[0].read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                closure(alias.name, seen)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                closure(each, seen)
    return seen


def instruction(word: str) -> Step:
    """The last instruction of that word: it is the one that holds."""
    return [step for step in steps(DOCKERFILE) if step.word == word][-1]


def test_the_image_has_the_service_and_of_the_ground_floor_what_it_imports():
    needed = {str(path.relative_to(REPOSITORY)) for path in closure(SERVICE, {}).values()}
    copied = [s.rest.split()[:-1] for s in steps(DOCKERFILE) if s.word == "COPY"]
    sources = tuple(word for words in copied for word in words if word.startswith("src/"))
    held = {name for name in context(REPOSITORY, tracked()) if name.startswith(sources)}
    assert held - needed == {name for name in held - needed if "/serving/" in name}
    assert needed - held == set()


def test_only_code_and_the_lock_are_sent_to_whoever_builds():
    sent = context(REPOSITORY, [*tracked(), "models/bundle/model.onnx", ".env", ".git/config"])
    outside = {name for name in sent if not name.startswith("src/mlops/")}
    assert outside == {"pyproject.toml", "infra/serving/requirements.lock"}


def test_a_base_without_a_digest_is_not_built_on():
    default = next(s.rest for s in steps(DOCKERFILE) if s.word == "ARG")
    assert re.fullmatch(r"BASE=python:3\.11-slim[a-z-]*@sha256:([0-9a-f]{64})?", default)
    assert {s.rest.split()[0] for s in steps(DOCKERFILE) if s.word == "FROM"} == {"${BASE}"}
    check = next(s.rest for s in steps(DOCKERFILE) if s.word == "RUN")
    floating = subprocess.run(["sh", "-c", check], env={"BASE": "python:3.11"}, capture_output=True)
    assert floating.returncode == 2
    pinned = subprocess.run(["sh", "-c", check], env={"BASE": "python@sha256:12"})
    assert pinned.returncode == 0


def test_signals_reach_the_service_and_nobody_is_root():
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", instruction("USER").rest)
    assert instruction("STOPSIGNAL").rest == "SIGTERM"
    assert listed(instruction("ENTRYPOINT").rest)[:3] == ["python", "-m", "mlops.serving"]
    assert listed(instruction("CMD").rest) == ["/bundle"]


@pytest.fixture(scope="module")
def image(finished) -> Iterator[Build]:
    """The image's file system below a folder that whoever runs the service can't write."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        _stand_in(root / "usr" / "local")
        build = Build(REPOSITORY, root, context(REPOSITORY, tracked()))
        build.environment = _loader(root / "usr" / "local")
        build.arguments = build.environment | {"BASE": "here@sha256:", "PIP_RETRIES": "1"}
        build.arguments |= {k: v for k, v in os.environ.items() if k.upper() in PASSED}
        _do_all(build)
        shutil.copytree(finished("wine").root / "models" / "bundle", root / "bundle")
        _own(root, 0)
        subprocess.run(["chmod", "-R", "a-w,a+rX", folder], check=True)
        yield build
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)


def _stand_in(place: Path) -> None:
    """This Python and its pip where the official image has them."""
    library = place / "lib" / "python3.11"
    unneeded = shutil.ignore_patterns("__pycache__", "test", "tests", "config-*", "site-packages")
    shutil.copytree(Path(sys.base_prefix) / "lib" / "python3.11", library, ignore=unneeded)
    (library / "site-packages").mkdir()
    for shared in (Path(sys.base_prefix) / "lib").glob("libpython3.11.so*"):
        shutil.copy(shared, place / "lib")
    (place / "bin").mkdir()
    shutil.copy(Path(sys.base_prefix) / "bin" / "python3.11", place / "bin")
    for name in ("python", "python3"):
        (place / "bin" / name).symlink_to("python3.11")
    pip = [place / "bin" / "python3", "-m", "ensurepip"]
    subprocess.run(pip, env=_loader(place), check=True, capture_output=True)


def _loader(place: Path) -> dict[str, str]:
    """Where a Python that was built as a shared library finds itself."""
    return {"LD_LIBRARY_PATH": str(place / "lib")}


def _own(root: Path, user: int) -> None:
    if NOBODY:
        subprocess.run(["chown", "-R", f"{user}:{user}", root], check=True)


def _do_all(build: Build) -> None:
    _own(build.root, 65534)
    for step in steps(DOCKERFILE):
        try:
            build.do(step)
        except subprocess.CalledProcessError as error:
            if any(sign in error.stderr for sign in OFFLINE):
                pytest.skip("no network: the image's libraries can't be installed")
            pytest.fail(f"{step.word} {step.rest}\n{error.stdout}{error.stderr}")
    build.folder = "/"


@pytest.fixture(scope="module")
def running(image: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """What the image starts, as another user, with nothing but the image on its path."""
    port, log = free_port(), tmp_path_factory.mktemp("image") / "service.log"
    words = listed(instruction("ENTRYPOINT").rest) + listed(instruction("CMD").rest)
    program = shutil.which(words[0], path=image.environment["PATH"])
    assert program
    assert Path(program).is_relative_to(image.root)
    command = [program, *map(image.below, words[1:]), "--host=127.0.0.1", f"--port={port}"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=image.environment, cwd=image.root, stdout=file, stderr=file, **NOBODY
        )
    service = Served(process, port, log)
    try:
        _await_health(image, service)
        yield service
    finally:
        process.kill()
        process.wait()


def _await_health(image: Build, service: Served) -> None:
    deadline = time.monotonic() + 60
    while not healthy(image, service.port):
        assert service.process.poll() is None, service.log.read_text()
        assert time.monotonic() < deadline, service.log.read_text()


def healthy(image: Build, port: int) -> bool:
    """What the image's own health check says."""
    words = listed(re.sub(r"^.*?CMD ", "", instruction("HEALTHCHECK").rest))
    try:
        image.run([word.replace("8080", str(port)) for word in words], image.environment)
    except subprocess.CalledProcessError:
        return False
    return True


def _everything(root: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime for path in root.rglob("*")}


@pytest.mark.slow
def test_the_image_answers_where_it_can_write_nothing(image, running):
    before = _everything(image.root)
    card = json.loads((image.root / "bundle" / "bundle.json").read_text())
    answer = running.post("/predict", card["example"])
    assert (answer.status, len(answer.json["predictions"])) == (200, 1)
    assert running.get("/v2").json["name"] == "mlops"
    assert running.get("/docs").status == 200
    assert _everything(image.root) == before


@pytest.mark.slow
def test_the_health_check_follows_the_service(image, running):
    assert healthy(image, running.port)
    assert not healthy(image, free_port())


@pytest.mark.slow
def test_all_that_the_service_imports_was_installed_from_its_lock(image):
    names = " ".join([*closure(SERVICE, {}), "onnx", "onnxruntime"])
    command = ["python", "-c", IMPORTS, names, " ".join(ELSEWHERE)]
    said = image.run(command, image.environment).stdout
    files, absent = json.loads(said)
    library = image.root / "usr" / "local" / "lib" / "python3.11"
    places = (str(image.root / "service"), str(library))
    strangers = [file for file in files if not file.startswith(places)]
    assert strangers == []
    assert absent == ELSEWHERE


@pytest.mark.slow
def test_the_image_has_the_lock_and_no_other_library(image):
    listing = "from importlib.metadata import distributions as d; print(*{i.name for i in d()})"
    names = image.run(["python", "-c", listing], image.environment).stdout.split()
    pins = re.findall(r"^([a-z0-9-]+)==", LOCK.read_text(), flags=re.MULTILINE)
    assert {name.lower().replace("_", "-") for name in names} == {*pins, "mlops"}


@pytest.mark.slow
def test_a_request_under_way_is_answered_when_the_container_is_told_to_stop(image, running):
    card = json.loads((image.root / "bundle" / "bundle.json").read_text())
    assert running.post("/predict", [card["example"]] * 5000).status == 200
    running.process.terminate()
    assert running.process.wait(30) in (0, -15)
    said = running.log.read_text()
    assert '"message":"stopped"' in said
    assert "Traceback" not in said
    assert "telemetry" not in said
