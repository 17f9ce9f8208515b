"""infra/platform's own tests, and its scripts against stand-ins of the programs that they call."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

from tests import apart
from tests.stack.servers import HOST, running

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "infra/platform"
STAND_IN = """#!/usr/bin/env bash
echo "${0##*/} $*" >> "$CALLS"
if [[ -n "${FAILS:-}" && "${0##*/} $*" == "$FAILS"* ]]; then exit 1; fi
case "$*" in
	*"stack output registryServer"*) echo crmlopsdevab12.azurecr.io ;;
	"image inspect "*) name=${*: -1}; echo "${name%:*}@sha256:0123" ;;
	"rev-parse HEAD") echo 4567 ;;
	*query*) echo an-id ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Run a copy of a script where the programs are stand-ins; its end, and their calls."""
    calls = tmp_path / "calls"
    calls.touch()
    for name in ("az", "pulumi", "docker", "git", "make"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)

    def script(name, *arguments, suffix="ab12", fails=""):
        place = tmp_path / "infra/platform"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(FOLDER / name, place)
        shutil.copytree(REPOSITORY / "infra/serving", tmp_path / "infra/serving")
        stack = (FOLDER / "Pulumi.dev.yaml").read_text()
        (place / "Pulumi.dev.yaml").write_text(stack.replace('"0000"', f'"{suffix}"'))
        path = f"{tmp_path}:{os.environ['PATH']}"
        env = {"PATH": path, "CALLS": str(calls), "FAILS": fails}
        done = subprocess.run([place / name, *arguments], env=env, capture_output=True, text=True,
                              check=False)  # fmt: skip
        return done, calls.read_text().splitlines()

    return script


@pytest.mark.parametrize("stack", ["dev", "staging", "production"])
def test_a_stack_s_file_is_accepted(stack, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from azure_platform import settings

    given = yaml.safe_load((FOLDER / f"Pulumi.{stack}.yaml").read_text())["config"]
    texts = {
        key: str(value).lower() if value is True else str(value) for key, value in given.items()
    }
    assert settings.parse(stack, texts).names.of("vault")


@pytest.mark.slow
@pytest.mark.nightly
def test_the_platform_holds_its_policies_types_and_checks(shared):
    for folder, lock in (("platform", "requirements"), ("checkov", "checkov")):
        shared.folder(folder, lambda to, lock=lock: apart.environment(FOLDER / f"{lock}.lock", to))
    command = ["make", "--old-file=setup", f"APART={shared.base}", "platform"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_state_is_kept_where_no_key_opens_it(run):
    done, calls = run("state.sh")
    assert done.returncode == 0, done.stderr
    address = "azblob://state?storage_account=stmlopsstateab12"
    assert done.stdout == f"export PULUMI_BACKEND_URL='{address}'\n"
    [account] = [call for call in calls if call.startswith("az storage account create")]
    for option in ("--allow-shared-key-access false", "--allow-blob-public-access false",
                   "--min-tls-version TLS1_2", "--https-only true"):  # fmt: skip
        assert option in account


def test_a_suffix_that_nobody_chose_is_refused_before_anything_is_made(run):
    done, calls = run("state.sh", suffix="0000")
    assert (done.returncode, calls) == (2, [])
    assert done.stderr.startswith("error: Pulumi.dev.yaml: platform:suffix: found '0000', expected")


def test_the_images_are_named_by_their_digests(run):
    done, calls = run("images.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "crmlopsdevab12.azurecr.io/mlops-azureml@sha256:0123\n"
    order = ["make --silent image", "az acr login --name crmlopsdevab12"]
    assert [call for call in calls if call in order] == order
    service = "SERVICE=crmlopsdevab12.azurecr.io/mlops-serving@sha256:0123"
    assert [call for call in calls if "docker build" in call and service in call]


@pytest.mark.parametrize("fails", [
    "az acr login", "docker tag mlops-serving", "docker push", "docker image inspect",
])  # fmt: skip
def test_images_that_were_not_pushed_have_no_names(fails, run):
    done, calls = run("images.sh", fails=fails)
    assert done.returncode != 0
    assert done.stdout == ""
    assert calls[-1].startswith(fails)


def test_without_pulumi_no_variable_is_set(tmp_path):
    command = [sys.executable, str(FOLDER / "variables.py")]
    env = {"PATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: outputs of the stack dev: ")


def test_each_environment_gets_its_own_identity_and_target():
    spec = spec_from_file_location("variables", FOLDER / "variables.py")
    variables = module_from_spec(spec)
    spec.loader.exec_module(variables)
    identities = {"dev": ("proposals", "releases", "platform-preview", "platform-dev", "worker"),
                  "staging": ("staging", "staging-watch", "platform-staging", "endpoint"),
                  "production": ("production", "production-watch")}  # fmt: skip
    stacks = {
        stack: {"tenant": "t", "subscription": "s", "group": f"rg-{stack}",
                "workspace": f"w-{stack}", "storageAccount": "store",
                "endpointIdentity": f"e-{stack}",
                **{f"client {name}": f"id-of-{name}" for name in names}}
        for stack, names in identities.items()
    }  # fmt: skip
    lines = list(variables.commands(stacks, "image@sha256:0"))
    for name in ("proposals", "staging-watch", "production", "platform-preview"):
        assert f"gh variable set AZURE_CLIENT_ID --env {name} --body id-of-{name}" in lines
    assert "gh variable set AZUREML_ENDPOINT_IDENTITY --env staging --body e-staging" in lines
    assert "gh variable set DVC_REMOTE_URL --body azure://releases/dvc" in lines
    text = "\n".join(lines)
    assert "env worker" not in text
    assert "env endpoint" not in text
    assert "AZUREML_ARM_WORKSPACE_NAME --env proposals" not in text
    assert "AZUREML_ARM_WORKSPACE_NAME --env platform-staging" not in text


CONNECTS = """
import asyncio, json, sys
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
where = sys.argv[1]
ask = text("SELECT current_user")
with create_engine(f"postgresql://{where}").connect() as connection:
    found = [connection.execute(ask).scalar()]
async def other():
    async with create_async_engine(f"postgresql+asyncpg://{where}").connect() as connection:
        return (await connection.execute(ask)).scalar()
print(json.dumps([*found, asyncio.run(other())]))
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_both_drivers_log_in_to_postgresql_with_a_token(tmp_path):
    stub = tmp_path / "azure/identity.py"
    stub.parent.mkdir()
    stub.write_text(
        "from types import SimpleNamespace\n"
        "class DefaultAzureCredential:\n"
        "    def get_token(self, scope):\n"
        "        assert scope == 'https://ossrdbms-aad.database.windows.net/.default'\n"
        "        return SimpleNamespace(token='a-token-of-an-hour')\n"
    )
    with running("postgres") as servers:
        servers.query("ALTER USER mlops PASSWORD 'a-token-of-an-hour'")
        rule = f"host all all {HOST}/32 scram-sha-256\n"
        (servers.folder / "postgres/pg_hba.conf").write_text(rule)
        servers.query("SELECT pg_reload_conf()")
        where = f"mlops@{HOST}:{servers.ports['postgres']}/postgres"
        path = os.pathsep.join([str(FOLDER / "entra_login"), str(tmp_path)])
        ends = {}
        for host in (HOST, "another.invalid"):
            env = {**os.environ, "PYTHONPATH": path, "ENTRA_LOGIN_HOST": host}
            ends[host] = subprocess.run([sys.executable, "-c", CONNECTS, where], env=env,
                                        capture_output=True, text=True, check=False)  # fmt: skip
    assert json.loads(ends[HOST].stdout) == ["mlops", "mlops"], ends[HOST].stderr
    assert "no password supplied" in ends["another.invalid"].stderr
