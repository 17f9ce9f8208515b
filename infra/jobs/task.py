"""Run one task of a job, a stage or a flow, in an environment made from the lock.

    task.py FILES stage NAME --module MODULE --run FOLDER [--needs STAGE[=FOLDER]] [--makes PATH]
                             [--data PATH=FOLDER]
    task.py FILES flow NAME --repository URL --commit COMMIT [--set KEY=VALUE]

FILES has what the job's deployment copied: `params.yaml`, `dvc.yaml`, the lock and the wheel.
This file runs in the machine's own Python, and imports the standard library and, on Databricks,
its SDK alone; all else runs in the environment, which has none of the machine's libraries.

A volume takes files that are written once, from start to end: no database, no lock, nothing
appended. So a stage works on the machine's own disk, in a folder as `dvc.yaml` expects it, and
what it makes passes through FOLDER, an archive for each stage with its SHA-256 beside it. What
other code, parameters or libraries made is never used: FOLDER has a part for each. Azure ML gives
each stage a FOLDER of its own, and mounts raw data that stands where `data.location` says.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

LOCK = "requirements.lock"
SETTINGS = ("params.yaml", "dvc.yaml", LOCK)
WHEEL = "infra/jobs/wheel/*.whl"
PYTHON = (3, 11)
# Databricks' own Python and Spark, which the environment's must not find, and what Azure ML says
# of its own tracking server.
FOREIGN = re.compile(
    r"PYTHON|PYSPARK|SPARK_(?!REMOTE)|VIRTUAL_ENV|MASTER$|MLFLOW_(RUN_ID|EXPERIMENT_ID)$"
)
AZUREML = re.compile("MLFLOW_(EXPERIMENT_NAME|TRACKING_TOKEN)$")
CLONE = """
import sys
from pathlib import Path
from mlops.forge import git
from mlops.pipeline import stage

def clone():
    for words in (["init"], ["remote", "add", "origin", sys.argv[1]], ["fetch", "origin"],
                  ["checkout", "--quiet", "--detach", sys.argv[2]]):
        git.git(Path(), *words)

sys.exit(stage.guarded(clone))
"""


class Failed(Exception):
    """What stops a task, in one line."""


def main(arguments: Sequence[str]) -> None:
    """Run a task; raises Failed with the reason."""
    given = _parser().parse_args(arguments)
    if not re.match("https?:|databricks", given.tracking):
        # Anything else ends with this machine, or with this task.
        raise Failed(f"tracking: found {given.tracking!r}, expected the URL of an MLflow server")
    python = environment(given.files / LOCK)
    surroundings = _surroundings(given, python)
    with tempfile.TemporaryDirectory(prefix="mlops-task-") as place:
        work = Path(place, "work")
        version = workspace(given.files, work)
        own = {**surroundings, "PYTHONPATH": "src"}
        if given.kind == "stage":
            run = given.run / version
            for stage, _, folder in (word.partition("=") for word in given.needs):
                take(stage, Path(folder, version) if folder else run, work)
            for place, _, folder in (word.partition("=") for word in given.data):
                (work / place).parent.mkdir(parents=True, exist_ok=True)
                (work / place).symlink_to(Path(folder).absolute())
            _run([python, "-m", given.module], given.name, work, own)
            keep(given.name, given.makes, work, run)
        else:
            clone = Path(place, "clone")
            clone.mkdir()
            own["PYTHONPATH"] = str(work / "src")
            command = [python, "-c", CLONE, given.repository, given.commit]
            _run(command, "clone", clone, own)
            own["PYTHONPATH"] = os.pathsep.join([str(clone), str(clone / "src")])
            # An empty parameter of the job stands for the flow's own default.
            parameters = [word for word in given.set if not word.endswith("=")]
            _run([python, "-m", "flows", given.name, *parameters], given.name, clone, own)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=Path)
    kinds = parser.add_subparsers(dest="kind", required=True)
    stage, flow = kinds.add_parser("stage"), kinds.add_parser("flow")
    for kind in (stage, flow):
        kind.add_argument("name")
        kind.add_argument("--tracking", required=True)
        kind.add_argument("--secrets", action="append", default=[])
    stage.add_argument("--module", required=True)
    stage.add_argument("--run", type=Path, required=True)
    stage.add_argument("--needs", action="append", default=[])
    stage.add_argument("--makes", action="append", default=[])
    stage.add_argument("--data", action="append", default=[])
    flow.add_argument("--repository", required=True)
    flow.add_argument("--commit", required=True)
    flow.add_argument("--set", action="append", default=[])
    return parser


def environment(lock: Path) -> Path:
    """Make the lock's environment on this machine, once for all tasks; gives its Python."""
    if sys.version_info[:2] != PYTHON:
        found, expected = (".".join(map(str, v)) for v in (sys.version_info[:2], PYTHON))
        raise Failed(f"Python: found {found}, expected {expected}; see spark_version, or "
                     "the image of Azure ML")  # fmt: skip
    content = lock.read_bytes()
    folder = Path(tempfile.gettempdir(), f"mlops-{hashlib.sha256(content).hexdigest()[:16]}")
    python, whole = folder / "bin/python", folder / "whole"
    with folder.with_suffix(".lock").open("w") as alone:
        # Tasks that run at once share it.
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not whole.exists():
            venv.create(folder, clear=True, symlinks=True, with_pip=True)
            uv = re.search(r"^uv==(?:.*\\\n)*.*\n", content.decode(), re.MULTILINE)
            if not uv:
                raise Failed(f"{lock}: uv: not found; `make lock`")
            installer = folder / "uv.txt"
            installer.write_text(uv[0])
            clean = _without_foreign()
            pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check")
            _run([python, *pip, "--require-hashes", "-r", installer], "pip", folder, clean)
            sync = ("-m", "uv", "pip", "sync", "-q", "--require-hashes", "--python", str(python))
            _run([python, *sync, lock.absolute()], "uv", folder, clean)
            whole.touch()
    return python


def workspace(files: Path, work: Path) -> str:
    """Make the folder that a stage works in; gives the digest of code, parameters and lock.

    A wheel of Python alone is an archive of the packages as `src` has them.
    """
    wheels = sorted(files.glob(WHEEL))
    if len(wheels) != 1:
        raise Failed(f"{files / WHEEL}: found {len(wheels)} wheels, expected 1; deploy again")
    (work / "src").mkdir(parents=True)
    with ZipFile(wheels[0]) as wheel:
        wheel.extractall(work / "src")
        names = sorted(name for name in wheel.namelist() if ".dist-info/" not in name)
    for name in SETTINGS:
        shutil.copyfile(files / name, work / name)
    made_from = [*(f"src/{name}" for name in names), *SETTINGS]
    listing = "\n".join(f"{name} {_digest(work / name)}" for name in made_from)
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def take(stage: str, run: Path, work: Path) -> None:
    """Copy what an earlier stage made; raises Failed unless it is all that the stage wrote."""
    archive, written = run / f"{stage}.zip", run / f"{stage}.sha256"
    if not written.is_file():
        raise Failed(f"{written}: not found; the task {stage} writes it: run all tasks")
    with tempfile.TemporaryDirectory(dir=work.parent) as aside:
        local = shutil.copyfile(archive, Path(aside, archive.name))
        found, expected = _digest(local), written.read_text().strip()
        if found != expected:
            raise Failed(f"{archive}: found SHA-256 {found[:12]}, expected {expected[:12]}; "
                         f"run the task {stage} again")  # fmt: skip
        with ZipFile(local) as files:
            files.extractall(work)


def keep(stage: str, makes: Sequence[str], work: Path, run: Path) -> None:
    """Copy what a stage made to the run's folder: its digest last, when all is there."""
    if not makes:
        return
    archive, written = run / f"{stage}.zip", run / f"{stage}.sha256"
    local = work.parent / archive.name
    with ZipFile(local, "w") as files:
        for place in (work / made for made in makes):
            # A file, or a folder with all in it.
            for path in (place, *sorted(place.rglob("*"))):
                files.write(path, path.relative_to(work))
    run.mkdir(parents=True, exist_ok=True)
    written.unlink(missing_ok=True)
    shutil.copyfile(local, archive)
    written.write_text(_digest(local))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _surroundings(given: argparse.Namespace, python: Path) -> dict[str, str]:
    """The environment variables of what runs: this machine's, the workspace's, the secrets."""
    variables = _without_foreign()
    variables["PATH"] = os.pathsep.join([str(python.parent), variables.get("PATH", "")])
    variables["MLFLOW_TRACKING_URI"] = given.tracking
    scopes = [scope for scope in given.secrets if scope]
    if scopes or given.tracking.startswith("databricks"):
        from databricks.sdk import WorkspaceClient

        client = WorkspaceClient()
        # The environment's MLflow does not know how a cluster signs in.
        token = client.config.authenticate()["Authorization"].removeprefix("Bearer ")
        variables |= {"DATABRICKS_HOST": str(client.config.host), "DATABRICKS_TOKEN": token}
        for scope in scopes:
            for secret in client.secrets.list_secrets(scope):
                value = client.secrets.get_secret(scope, str(secret.key)).value
                variables[str(secret.key)] = base64.b64decode(str(value)).decode()
    return variables


def _without_foreign() -> dict[str, str]:
    foreign = [FOREIGN, *([AZUREML] if "AZUREML_RUN_ID" in os.environ else [])]
    return {name: value for name, value in os.environ.items()
            if not any(pattern.match(name) for pattern in foreign)}  # fmt: skip


def _run(
    command: Sequence[str | Path], name: str, folder: Path, variables: Mapping[str, str]
) -> None:
    """Run a command and print its lines as they come; raises Failed unless it ends well."""
    # Databricks shows what this process prints, not what its children write.
    with subprocess.Popen(command, cwd=folder, env=dict(variables), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # fmt: skip
        for line in process.stdout or ():
            print(line, end="", flush=True)
    if process.returncode:
        raise Failed(f"{name}: exit code {process.returncode}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Failed, OSError) as error:
        sys.exit(f"error: {error}")
