"""Training as a pipeline of Azure ML: a component for each stage, made of dvc.yaml.

    python -m infra.azureml.training

Writes `.run/azureml-training/`: `pipeline.yaml`, a component for each stage, and `files/`, what a
step runs: the wheel, the lock, the settings and `infra/jobs/task.py`. The user's part is
`training.yaml` beside this file. What Azure ML's loader accepts and would not run is refused here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml

from infra.jobs.handover import passed_on
from mlops.base.documents import shown
from mlops.base.environment import LOOPBACK, given
from mlops.base.errors import UserError, nearest
from mlops.base.files import whole_folder
from mlops.contract import params, stages
from mlops.data.params import Params
from mlops.deploy import specification
from mlops.pipeline import stage, tracking_server

PIPELINE = Path("infra/azureml/training.yaml")
MADE = Path(".run/azureml-training")
WHEEL = Path("infra/jobs/wheel")
FILES = ("requirements.lock", "params.yaml", "dvc.yaml", "infra/jobs/task.py")
IMAGE = "MLOPS_TRAINING_IMAGE"
SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json"
RAW, TRACKING, OUTPUT = "raw", "tracking", "made"
ASSETS = ("train", "evaluate")
FOLDER = {"type": "uri_folder"}
DATA = "azureml:NAME:VERSION or a URL"
PINNED = r"[\w./:-]+@sha256:[0-9a-f]{64}"
COMPUTE = r"azureml:[A-Za-z][A-Za-z0-9-]{1,31}|serverless"
# Nothing that a shell takes for more than text: it stands in the steps' commands.
SERVER = r"(?a:https?://\w[\w.-]*(:\d+)?(/[\w./:-]*)?)"
REMOTE = r"(?!(?:file|local|memory):)[a-z][a-z0-9+.-]*://\S+"
ASSET = rf"azureml:[\w.-]+:\w[\w.-]*|{REMOTE}"
# Sources whose location is no folder.
FOLDERLESS = ("package", "sql", "cosmos", "spark")
# Of a step, what is not the user's to say.
MADE_HERE = {"type", "component", "inputs", "outputs"}

Document = dict[str, Any]


def render(root: Path, image: str, tracking: str) -> dict[str, Document]:
    """`pipeline.yaml` and each stage's component, by the names of their files.

    Raises UserError for what would not run: unknown names, unpinned images and data.
    """
    if not re.fullmatch(PINNED, image):
        raise UserError(f"{IMAGE}: found {image!r}, expected NAME@sha256:DIGEST, with Python 3.11")
    settings = params.load(Params, root)
    values = {"model": settings.model, "tracking": tracking,
              "experiment": re.sub(r"[^\w-]", "-", settings.model)}  # fmt: skip
    pipeline = specification.load(root, PIPELINE, values)
    for key in ("settings", "inputs", "outputs", "jobs"):
        pipeline[key] = _mapping(pipeline.get(key) or {}, key)
    own = pipeline["jobs"]
    for name in own:
        if name not in stages.MODULES:
            hint = nearest(name, stages.MODULES)
            raise UserError(f"{PIPELINE}: jobs: unknown stage {name!r}{hint}")
        if made := sorted(MADE_HERE & set(_mapping(own[name], f"jobs.{name}"))):
            raise UserError(f"{PIPELINE}: jobs.{name}.{made[0]}: found, though it is made of "
                            f"{stages.PIPELINE}; expected settings such as compute")  # fmt: skip
    location = _location(settings, RAW in pipeline["inputs"])
    # Data assets, a version for each run: the bundle and its evidence.
    outputs = {name: {**FOLDER, "mode": "upload", "name": f"{values['experiment']}-{name}"}
               for name in ASSETS}  # fmt: skip
    pipeline["outputs"] = {**outputs, **pipeline["outputs"]}
    pipeline["jobs"], files = {}, {}
    for name, (needs, makes) in passed_on(root).items():
        component = _component(name, needs, makes, image, location)
        files[f"{name}.yaml"] = component
        bound = {other: f"${{{{parent.jobs.{other}.outputs.{OUTPUT}}}}}" for other in needs}
        bound |= {key: f"${{{{parent.inputs.{key}}}}}"
                  for key in (TRACKING, RAW) if key in component["inputs"]}  # fmt: skip
        job: Document = {"type": "command", "component": f"{name}.yaml", "inputs": bound}
        if name in outputs:
            job["outputs"] = {OUTPUT: f"${{{{parent.outputs.{name}}}}}"}
        pipeline["jobs"][name] = {**job, **own.get(name, {})}
    _require_reachable(pipeline)
    return {"pipeline.yaml": pipeline, **files}


def _location(settings: Params, is_mounted: bool) -> str:
    """The folder that a data asset stands for, "" where every machine reaches the data itself."""
    place, location = "params.yaml: data.location", settings.data.location
    # The last of fsspec's chained places holds the files.
    is_folder = settings.data.source not in FOLDERLESS and not _is_remote(location.split("::")[-1])
    if not is_mounted:
        if is_folder:
            raise UserError(f"{place}: found {location!r}, a folder of this machine; expected a "
                            f"URL, or inputs.{RAW} in {PIPELINE}")  # fmt: skip
        return ""
    # A step's folder holds src and files of its own, beside which the data are mounted.
    is_plain = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*/?", location)
    if not is_folder or not is_plain or location.split("/")[0] == "src":
        raise UserError(f"{place}: found {location!r}, expected the name of the folder that "
                        f"inputs.{RAW} of {PIPELINE} stands for, such as raw")  # fmt: skip
    return location


def _is_remote(url: str) -> bool:
    """Whether a URL may name something that other machines reach too."""
    return bool(re.fullmatch(REMOTE, url)) and not _is_loopback(url)


def _is_loopback(url: str) -> bool:
    hosts = "|".join(map(re.escape, LOOPBACK))
    own = rf"(?i)[^/]*//([^/@]*@)?\[?({hosts}|127\.[\d.]+|0\.0\.0\.0)\]?([:/?#]|$)"
    return bool(re.match(own, url))


def _component(
    name: str, needs: list[str], makes: list[str], image: str, location: str
) -> Document:
    """A stage's component: its command, what it takes and what it makes."""
    words = ["python infra/jobs/task.py . stage", name, "--module", stages.MODULES[name]]
    words += [f"--needs {other}=${{{{inputs.{other}}}}}" for other in needs]
    words += [f"--makes {shlex.quote(path)}" for path in makes]
    words += [f"--run ${{{{outputs.{OUTPUT}}}}}" if makes else "--run .",
              f"--tracking ${{{{inputs.{TRACKING}}}}}"]  # fmt: skip
    inputs: Document = {other: {**FOLDER, "mode": "download"} for other in needs}
    inputs[TRACKING] = {"type": "string"}
    if location and name == "ingest":
        inputs[RAW] = {**FOLDER, "mode": "ro_mount"}
        words.append(f"--data {location}=${{{{inputs.{RAW}}}}}")
    return {
        "$schema": SCHEMA, "type": "command", "name": f"mlops_{name}", "display_name": name,
        # Azure ML must not take an earlier output for that of a source it does not see, nor for a
        # model version.
        "is_deterministic": name != "register" and (name != "ingest" or bool(location)),
        "code": "files", "environment": {"image": image}, "inputs": inputs,
        **({"outputs": {OUTPUT: {**FOLDER, "mode": "upload"}}} if makes else {}),
        "command": " ".join(words),
    }  # fmt: skip


def _require_reachable(pipeline: Document) -> None:
    """Refuse what Azure ML's loader accepts, and its service or a step would not."""
    _require_server(pipeline["inputs"].get(TRACKING))
    for name, one in pipeline["inputs"].items():
        if name == RAW or (isinstance(one, dict) and "path" in one):
            path = _mapping(one, f"inputs.{name}").get("path")
            _require(path, ASSET, f"inputs.{name}.path", DATA)
    default = pipeline["settings"].get("default_compute", "")
    for name, job in pipeline["jobs"].items():
        _require(job.get("compute", default), COMPUTE, f"jobs.{name}.compute",
                 "azureml:NAME or serverless")  # fmt: skip


def _require_server(url: Any) -> None:
    place = f"{PIPELINE}: inputs.{TRACKING}, of {tracking_server.VARIABLE}"
    expected = "the URL of an MLflow server that a cluster reaches, without user and password"
    if "@" in str(url):
        raise UserError(f"{place}: found a user or a password, expected {expected}")
    if not re.fullmatch(SERVER, str(url)) or _is_loopback(str(url)):
        raise UserError(f"{place}: found {shown(url)}, expected {expected}")


def _mapping(value: Any, place: str) -> Document:
    if not isinstance(value, dict):
        raise UserError(f"{PIPELINE}: {place}: found {shown(value)}, expected keys and values")
    return value


def _require(text: Any, pattern: str, place: str, expected: str) -> None:
    if not isinstance(text, str) or not re.fullmatch(pattern, text):
        raise UserError(f"{PIPELINE}: {place}: found {shown(text)}, expected {expected}")


def write(root: Path, image: str, tracking: str) -> Path:
    """Write the pipeline with what its steps run; gives its folder."""
    rendered = render(root, image, tracking)
    wheels = sorted((root / WHEEL).glob("*.whl"))
    if len(wheels) != 1:
        raise UserError(f"{WHEEL}: found {len(wheels)} wheels, expected 1; `make wheel`")
    with whole_folder(root / MADE) as folder:
        for name, content in rendered.items():
            (folder / name).write_text(yaml.safe_dump(content, sort_keys=False, width=1000))
        for name in (*FILES, str(wheels[0].relative_to(root))):
            (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / "files" / name)
    return root / MADE


def main() -> None:
    """Write the pipeline of this folder, for the server and the image of the environment."""
    folder = write(Path(), given(os.environ, IMAGE), given(os.environ, tracking_server.VARIABLE))
    print(f"{folder / 'pipeline.yaml'}: written")


if __name__ == "__main__":
    raise SystemExit(stage.guarded(main))
