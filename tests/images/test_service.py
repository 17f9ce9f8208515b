"""The service's image: what its Dockerfile says, and what a real engine builds and runs of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pathspec
import pytest
from model_signing.signing import Config
from packaging.requirements import Requirement

from mlops.base import processes
from mlops.base.files import folder_digest
from tests.conftest import REPOSITORY
from tests.images import index
from tests.images.engine import CERTIFICATES, Engine
from tests.repository_copy import listed
from tests.served import Reply, Served
from tests.signers import Sigstore, key_pair

# Builds wait for registries of packages.
pytestmark = pytest.mark.timeout(1200)
FOLDER = REPOSITORY / "infra" / "serving"
BASED = [FOLDER / "Dockerfile", REPOSITORY / "infra/local/Dockerfile"]
NOT_INCLUDED = ["mlflow", "pandas", "pyarrow", "sklearn", "prefect", "pyspark", "dvc", "pip"]
# Import the whole service; print the files of all modules, each with whether it is compiled, and
# which of the names are not found.
IMPORTS = """
import importlib, importlib.util, json, os, pkgutil, sys
from importlib.machinery import SourceFileLoader
import mlops.serving, onnx, onnxruntime
for module in pkgutil.iter_modules(mlops.serving.__path__, "mlops.serving."):
    importlib.import_module(module.name)
modules = [module for module in list(sys.modules.values()) if getattr(module, "__file__", 0)]
sources = {one.__file__ for one in modules if isinstance(one.__loader__, SourceFileLoader)}
files = [
    (one.__file__, one.__file__ not in sources or os.path.exists(one.__cached__))
    for one in modules
]
absent = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
print(json.dumps([files, absent]))
"""


def instructions(file: Path = FOLDER / "Dockerfile") -> list[tuple[str, str]]:
    """A Dockerfile's instructions, each with its arguments."""
    lines = file.read_text().splitlines()
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


@pytest.mark.parametrize("dockerfile", BASED, ids=lambda path: path.parent.name)
def test_every_base_is_named_by_digest(dockerfile):
    """The official one, which an empty BASE means too, and any other that is given."""
    lines = instructions(dockerfile)
    bases = {rest.split()[0] for instruction, rest in lines if instruction == "FROM"} - {"scratch"}
    named = {base for base in bases if not base.startswith("$")}
    assert all(re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", base) for base in named)
    assert bases - named == {"${BASE:-official}"}
    check = next(rest for instruction, rest in lines if instruction == "RUN")
    codes = {"python:3.11": 2, "python@sha256:12": 0, "official": 0, "": 0}
    for base, code in codes.items():
        done = subprocess.run(["sh", "-c", check], env={"BASE": base}, capture_output=True)
        assert done.returncode == code


def test_signals_reach_the_service_which_is_not_root():
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", DOCKERFILE["USER"])
    assert DOCKERFILE["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(DOCKERFILE["ENTRYPOINT"])[:3] == ["python", "-m", "mlops.serving"]


@pytest.fixture(scope="module")
def company(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[index.Index]:
    """A package index with a password and a certificate of its own, at the engine's gateway."""
    with index.serving(engine.gateway, tmp_path_factory.mktemp("index")) as company:
        yield company


@pytest.fixture(scope="module")
def image(engine: Engine, company: index.Index) -> str:
    """The image as `make image` builds it, from that index."""
    certificates = Path(engine.folder, "certificates.pem")
    certificates.write_text(Path(CERTIFICATES).read_text() + company.certificate)
    own = {"PIP_INDEX_URL": company.url, "CERTIFICATES": str(certificates)}
    env = {**engine.env, **own, "BASE": engine.base}
    processes.run(["make", "--silent", "image"], cwd=REPOSITORY, env=env)
    assert "onnxruntime" in company.asked
    return "mlops-serving"


@pytest.fixture(scope="module")
def bundle(finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that every user can read."""
    copy = tmp_path_factory.mktemp("bundle") / "bundle"
    shutil.copytree(finished("wine").root / "models" / "bundle", copy)
    copy.chmod(0o755)
    for path in copy.iterdir():
        path.chmod(0o644)
    return copy


def run(engine: Engine, image: str, *command: object, mounts: tuple[Path, ...] = ()) -> str:
    """What a command prints in a container of the image, which sees folders in their places."""
    volumes = [f"--volume={path}:{path}:ro" for path in mounts]
    return engine.docker("run", "--rm", *volumes, "--entrypoint", command[0], image, *command[1:])


@pytest.fixture
def running(engine: Engine, image: str, bundle: Path) -> Iterator[tuple[str, Served]]:
    """The service as it is run where nothing more is allowed than it needs, and its container."""
    before = time.monotonic()
    limits = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
              "--memory=256m", "--memory-swap=256m", "--pids-limit=64")  # fmt: skip
    container = engine.docker("run", "--detach", *limits, "--publish=127.0.0.1::8080",
                              f"--volume={bundle}:/bundle:ro", image)  # fmt: skip
    try:
        port = int(engine.docker("port", container, "8080").rsplit(":", 1)[1])
        url = f"http://127.0.0.1:{port}/v2/health/ready"
        assert processes.wait(lambda: processes.answers(url)), engine.docker("logs", container)
        print(f"the container was ready after {time.monotonic() - before:.1f} s")
        yield container, Served(None, port, Path())
    finally:
        engine.docker("rm", "--force", container)


@pytest.mark.nightly
def test_the_service_answers_with_no_more_rights_and_memory_than_it_needs(engine, running, bundle):
    container, service = running
    example = json.loads((bundle / "bundle.json").read_text())["example"]
    answer: Reply = service.post("/predict", example)
    assert (answer.status, len(answer.json["predictions"])) == (200, 1)
    assert service.get("/v2").json["name"] == "mlops"
    assert service.get("/docs").status == 200
    state = engine.docker("exec", container, "cat", "/proc/1/status")
    assert re.search(r"^Uid:\s10001\s", state, flags=re.MULTILINE)
    assert set(re.findall(r"^Cap(?:Prm|Eff|Bnd):\s(\w+)", state, flags=re.MULTILINE)) == {"0" * 16}
    health = ["inspect", "-f", "{{.State.Health.Status}}", container]
    assert processes.wait(lambda: engine.docker(*health) == "healthy", seconds=60)
    # It wrote nothing, though it may in /tmp; the bundle's place is made by the engine.
    assert engine.docker("diff", container) == "A /bundle"
    assert engine.docker("exec", container, "ls", "/tmp") == ""
    engine.docker("stop", "--time=30", container)
    form = "{{.State.ExitCode}} {{.State.OOMKilled}}"
    assert engine.docker("inspect", "-f", form, container) == "0 false"
    log = ["docker", "logs", container]
    both = subprocess.run(log, env=engine.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert b'"stopped"' in both.stdout
    assert not re.search(b"Traceback|telemetry", both.stdout)


@pytest.mark.nightly
def test_two_builds_give_the_same_layers(engine, image):
    engine.build("--no-cache", "--tag=mlops-serving-again", "-f", FOLDER / "Dockerfile", REPOSITORY)
    assert engine.layers("mlops-serving-again") == engine.layers(image)


@pytest.mark.nightly
def test_nothing_of_the_index_and_its_certificate_is_in_the_image(engine, image, company):
    archive = Path(engine.folder, "image.tar")
    engine.docker("save", "--output", archive, image)
    content = archive.read_bytes()
    archive.unlink()
    # A line of the certificate, and what is in the image.
    line, code = company.certificate.splitlines()[2], "mlops/serving/__main__.py"
    found = [text for text in (index.PASSWORD, line, code) if text.encode() in content]
    assert found == [code]


@pytest.mark.nightly
def test_all_that_the_service_imports_is_in_the_image_and_compiled(engine, image):
    files, absent = json.loads(run(engine, image, "python", "-c", IMPORTS, *NOT_INCLUDED))
    places = ("/service", "/usr/local/lib/python3.11")
    assert [file for file, _ in files if not file.startswith(places)] == []
    assert [file for file, compiled in files if not compiled] == []
    assert absent == NOT_INCLUDED


@pytest.mark.nightly
def test_no_library_s_own_tests_are_in_the_image(engine, image):
    folders = run(engine, image, "find", "/service", "-type", "d").split()
    assert folders
    assert [name for name in folders if Path(name).name in ("test", "tests")] == []


@pytest.mark.nightly
def test_the_image_has_the_libraries_of_its_lock_and_no_other(engine, image):
    code = "import platform; print(platform.python_version()); "
    code += "from importlib.metadata import distributions as d; print(*{i.name for i in d()})"
    version, *names = run(engine, image, "python", "-c", code).split()
    lock = (FOLDER / "requirements.lock").read_text()
    pins = map(Requirement, re.findall(r"^([a-z0-9-]+==[^\\\n]+)", lock, flags=re.MULTILINE))
    here = {"python_full_version": version}
    pinned = [pin.name for pin in pins if not pin.marker or pin.marker.evaluate(here)]
    assert {name.lower().replace("_", "-") for name in names} == {*pinned, "mlops"}


@pytest.mark.nightly
def test_the_image_verifies_signatures_with_what_it_has(engine, image, bundle, tmp_path):
    digest, file = folder_digest(bundle), tmp_path / "signature.json"
    private, public = key_pair(tmp_path, "ours")
    Config().use_elliptic_key_signer(private_key=private).sign(bundle, file)
    verify = "from mlops.serving.signature import verify; from pathlib import Path"

    def accept(*signer: str | None) -> None:
        # Who runs in the container is nobody here.
        tmp_path.chmod(0o755)
        for path in tmp_path.iterdir():
            path.chmod(0o644)
        code = f"{verify}; verify('{digest}', Path('{file}'), *{signer})"
        run(engine, image, "python", "-c", code, mounts=(tmp_path,))

    accept(str(public), None, None, None)
    sigstore, who = Sigstore(), ("a@b.cd", "https://issuer.test")
    file.write_text(sigstore.sign(bundle, *who))
    accept(None, *who, str(sigstore.trust(tmp_path / "trust.json")))


@pytest.mark.nightly
def test_azure_ml_s_image_finds_the_bundle_below_its_folder(engine, image, bundle):
    """From the names by digest that `make image-push` prints."""
    registry = engine.base.split("/")[0]
    names = processes.run([str(FOLDER / "push.sh"), registry], env=engine.env).split()
    assert [name.partition("=")[0] for name in names] == ["service", "azureml"]
    azureml = names[1].partition("=")[2]
    assert re.fullmatch(f"{registry}/mlops-azureml@sha256:[0-9a-f]{{64}}", azureml)
    variables = ("--env=AZUREML_MODEL_DIR=/var/model", "--env=MLOPS_MODEL_VERSION=7")
    place = f"--volume={bundle}:/var/model/INPUT/bundle:ro"
    options = ("--detach", "--publish=127.0.0.1::8080", *variables, place)
    container = engine.docker("run", *options, azureml)
    try:
        port = engine.docker("port", container, "8080").rsplit(":", 1)[1]
        url = f"http://127.0.0.1:{port}/v2/health/ready"
        assert processes.wait(lambda: processes.answers(url)), engine.docker("logs", container)
        with urllib.request.urlopen(url) as answer:
            assert answer.headers["x-model-digest"] == folder_digest(bundle)
            assert answer.headers["x-model-version"] == "7"
    finally:
        engine.docker("rm", "--force", container)
