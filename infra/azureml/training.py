"""Training as a pipeline of Azure ML: a component for each stage, made of dvc.yaml.

    python -m infra.azureml.training

Writes `.run/azureml-training/`: `pipeline.yaml`, a component for each stage, and `files/`, what a
step runs: the wheel, the lock, the settings and `infra/jobs/task.py`. The user's part is
`training.yaml` beside this file. What Azure ML's loader accepts and would not run is refused here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from infra.jobs.handover import passed_on
from mlops.base.environment import given
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
PINNED = r"[\w./:-]+@sha256:[0-9a-f]{64}"
COMPUTE = r"azureml:[A-Za-z][A-Za-z0-9-]{1,31}|serverless"
ASSET = r"azureml:[\w.-]+:\w[\w.-]*|[a-z]+://\S+"
BINDING = re.compile(r"\$\{\{parent\.(?:inputs\.(\w+)|jobs\.(\w+)\.outputs\.(\w+))\}\}")

Document = dict[str, Any]


def render(root: Path, image: str, tracking: str) -> dict[str, Document]:
    """`pipeline.yaml` and each stage's component, by the names of their files.

    Raises UserError for what would not run: names, circles, unpinned images and data.
    """
    settings = params.load(Params, root)
    values = {"model": settings.model, "tracking": tracking,
              "experiment": re.sub(r"[^\w-]", "-", settings.model)}  # fmt: skip
    pipeline = specification.load(root, PIPELINE, values)
    own = pipeline.get("jobs") or {}
    for name in own:
        if name not in stages.MODULES:
            hint = nearest(name, stages.MODULES)
            raise UserError(f"{PIPELINE}: jobs: unknown stage {name!r}{hint}")
    location = _location(settings, RAW in (pipeline.get("inputs") or {}))
    # Data assets, a version for each run: the bundle and its evidence.
    outputs = {name: {**FOLDER, "mode": "upload", "name": f"{values['experiment']}-{name}"}
               for name in ASSETS}  # fmt: skip
    pipeline["outputs"] = {**outputs, **(pipeline.get("outputs") or {})}
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
    rendered = {"pipeline.yaml": pipeline, **files}
    require_consistent(rendered)
    return rendered


def _location(settings: Params, is_mounted: bool) -> str:
    """The folder that a data asset stands for, "" where every machine reaches the data itself."""
    place, location = "params.yaml: data.location", settings.data.location
    is_folder = bool(re.fullmatch(r"[\w-][\w./-]*", location)) and settings.data.source != "package"
    if is_folder and not is_mounted:
        raise UserError(f"{place}: found {location!r}, a folder of this machine; expected a URL, "
                        f"or inputs.{RAW} in {PIPELINE}")  # fmt: skip
    if is_mounted and not is_folder:
        raise UserError(f"{place}: found {location!r}, expected the name of the folder that "
                        f"inputs.{RAW} of {PIPELINE} stands for")  # fmt: skip
    return location if is_mounted else ""


def _component(
    name: str, needs: list[str], makes: list[str], image: str, location: str
) -> Document:
    """A stage's component: its command, what it takes and what it makes."""
    words = ["python infra/jobs/task.py . stage", name, "--module", stages.MODULES[name]]
    words += [f"--needs {other}=${{{{inputs.{other}}}}}" for other in needs]
    words += [f"--makes {path}" for path in makes]
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


def require_consistent(files: Mapping[str, Document]) -> None:
    """Refuse what Azure ML's loader accepts, and its service or a step would not."""
    pipeline = files["pipeline.yaml"]
    jobs, inputs = pipeline["jobs"], pipeline.get("inputs") or {}
    _require(str(inputs.get(TRACKING)), r"https?://\S+", f"inputs.{TRACKING}",
             "the URL of an MLflow server")  # fmt: skip
    default = (pipeline.get("settings") or {}).get("default_compute", "")
    for name, one in inputs.items():
        if isinstance(one, dict) and "path" in one:
            _require(one["path"], ASSET, f"inputs.{name}.path", "azureml:NAME:VERSION or a URL")
    waits: dict[str, set[str]] = {}
    for name, job in jobs.items():
        place = f"jobs.{name}"
        _known(str(job.get("component")), files, f"{place}.component")
        _require(str(job.get("compute", default)), COMPUTE, f"{place}.compute",
                 "azureml:NAME or serverless")  # fmt: skip
        component = files[job["component"]]
        _require(str(component["environment"].get("image")), PINNED,
                 f"{job['component']}: environment.image", "NAME@sha256:DIGEST")  # fmt: skip
        for key in (*component["inputs"], *job.get("inputs", {})):
            _known(key, component["inputs"], f"{place}.inputs")
            _known(key, job.get("inputs", {}), f"{place}.inputs")
        used = re.findall(r"\$\{\{(inputs|outputs)\.(\w+)\}\}", component["command"])
        for kind, key in used:
            _known(key, component.get(kind, {}), f"{job['component']}: command: {kind}")
        waits[name] = set()
        for key, bound in job["inputs"].items():
            binding = BINDING.fullmatch(str(bound))
            if not binding:
                raise UserError(f"{place}.inputs.{key}: found {bound!r}, expected a binding")
            source, other, output = binding.groups()
            _known(source or other, inputs if source else jobs, f"{place}.inputs.{key}")
            if other:
                made = files[jobs[other]["component"]].get("outputs", {})
                _known(output, made, f"{place}.inputs.{key}: outputs of {other}")
                waits[name].add(other)
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        raise UserError(f"jobs: found the circle {' → '.join(error.args[1])}") from None


def _require(text: str, pattern: str, place: str, expected: str) -> None:
    if not re.fullmatch(pattern, text):
        raise UserError(f"{PIPELINE}: {place}: found {text!r}, expected {expected}")


def _known(name: str, known: Any, place: str) -> None:
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise UserError(f"{PIPELINE}: {place}: found {name!r}, expected one of {listed}")


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
    image = given(os.environ, IMAGE)
    if not re.fullmatch(PINNED, image):
        raise UserError(f"{IMAGE}: found {image!r}, expected NAME@sha256:DIGEST, with Python 3.11")
    folder = write(Path(), image, given(os.environ, tracking_server.VARIABLE))
    print(f"{folder / 'pipeline.yaml'}: written")


if __name__ == "__main__":
    raise SystemExit(stage.guarded(main))
