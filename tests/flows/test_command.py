"""`python -m flows NAME`: what is said of a name, of a missing server, of what a flow refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import yaml

from flows import __main__ as command
from mlops.base.errors import MENDABLE
from tests.conftest import PROJECTS, REPOSITORY
from tests.settings import change


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["flows", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("trainign",), ("training", "scoring")])
def test_a_name_that_is_none_is_said_in_one_line(monkeypatch, capsys, words):
    code, said = run(monkeypatch, capsys, *words)
    assert code == MENDABLE
    assert said.startswith(f"error: flow: found {' '.join(words)!r}, expected one name; ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda root: change(root, {"tune.max_eval": 3}),
         "params.yaml: tune.max_eval: unknown key; did you mean"),
        (lambda root: (root / "dvc.yaml").unlink(),
         "dvc.yaml: not found; expected the pipeline's stages there"),
        (lambda root: (root / "src/wine/models.py").unlink(),
         "dvc.yaml: stages.tune.deps: src/wine/models.py: not found"),
        (lambda root: None, ".run/training.lock: another training runs in this folder"),
    ],
)  # fmt: skip
def test_what_would_stop_a_training_is_said_before_a_server_is_started(tmp_path, spoil, line):
    for name in ("dvc.yaml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copy(PROJECTS / "params.yaml", tmp_path)
    change(tmp_path, {"project": "wine"})
    (tmp_path / "src").mkdir()
    (tmp_path / "src/mlops").symlink_to(REPOSITORY / "src/mlops")
    shutil.copytree(PROJECTS / "wine", tmp_path / "src/wine")
    spoil(tmp_path)
    # Where a server would be started, the folder is locked already.
    program = (
        "import sys; sys.argv = ['flows', 'training']\n"
        "from flows import __main__ as command\n"
        "command.temporary_server.start_where_needed = lambda root: "
        "command.reproduction.alone(root).__enter__()\n"
        "try: command.main()\n"
        "finally: print('prefect' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path / 'src'}"}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (MENDABLE, "False\n")
    assert done.stderr.startswith(f"error: {line}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("service", command.SERVICES)
def test_what_needs_a_server_that_stays_says_how_to_have_one(
    monkeypatch, capsys, tmp_path, service
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    code, said = run(monkeypatch, capsys, service)
    assert (code, said) == (
        MENDABLE, "error: PREFECT_API_URL: not set; `make up` starts a server here\n"
    )  # fmt: skip


@pytest.mark.slow
def test_a_parameter_goes_to_the_flow_by_its_name(monkeypatch, tmp_path):
    given = []

    def noted(flow, summarized):
        given.append((flow.keywords, summarized))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.screen.run", noted)
    monkeypatch.setattr("sys.argv", ["flows", "scoring", "environment=staging", "source=a=b"])
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(SystemExit):
        command.main()
    assert given == [({"environment": "staging", "source": "a=b"}, False)]


DEPLOYMENT = {"name": "nightly", "entrypoint": "flows/scoring.py:scoring"}


@pytest.mark.parametrize(
    ("deployments", "line"),
    [
        ([], "deployments: found none, expected at least one"),
        ([{"parameters": {}}], "deployments: found {'parameters': {}}, expected each with a name"),
        ([DEPLOYMENT | {"entrypoint": "flows/score.py:scoring"}],
         "nightly: entrypoint: found 'flows/score.py:scoring', expected FILE.py:FLOW"),
        ([DEPLOYMENT | {"entrypoint": "flows/scoring.py:scorin"}],
         "nightly: entrypoint: flows/scoring.py has no 'scorin'; did you mean 'scoring'?"),
        ([DEPLOYMENT | {"parameters": {"enviroment": "staging"}}],
         "nightly: parameters: enviroment: scoring does not take it; did you mean 'environment'?"),
        ([DEPLOYMENT | {"schedules": [{"every": "day"}]}],
         "nightly: schedules: found {'every': 'day'}, expected one of cron, interval, rrule"),
        ([DEPLOYMENT | {"schedules": [{"cron": "at noon"}]}],
         "nightly: schedules: cron: 'at noon': 1 validation error for CronSchedule"),
    ],
)  # fmt: skip
def test_check_names_what_a_deployment_lacks(monkeypatch, capsys, tmp_path, deployments, line):
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": deployments}))
    (tmp_path / "flows").symlink_to(REPOSITORY / "flows")
    monkeypatch.chdir(tmp_path)
    code, said = run(monkeypatch, capsys, "check")
    assert code == MENDABLE
    assert said.startswith(f"error: prefect.yaml: {line}")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("package", ["azure", "logging"])
def test_check_refuses_a_flow_that_hides_a_package(monkeypatch, capsys, tmp_path, package):
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": [DEPLOYMENT]}))
    shutil.copytree(REPOSITORY / "flows", tmp_path / "flows")
    (tmp_path / "flows" / f"{package}.py").touch()
    monkeypatch.chdir(tmp_path)
    code, said = run(monkeypatch, capsys, "check")
    assert code == MENDABLE
    assert said == (
        f"error: flows/{package}.py: found the name of a package, which flows could not import\n"
    )
