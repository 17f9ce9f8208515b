"""The tracking server: where it is, whether it can be used, and its errors in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops.base.environment import given, without_credentials
from mlops.base.errors import UserError, one_line

VARIABLE = "MLFLOW_TRACKING_URI"
# MLflow's own, for a registry elsewhere and an experiment of another name.
REGISTRY, EXPERIMENT = "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME"
EMBEDDED = Path("mlruns")
STORE = "mlflow.db"
ANSWER_SECONDS = 10
# The oldest server that knows MLflow 3's logged models, which `register` makes.
OLDEST = (3, 0)
# MLflow's own defaults wait for four minutes; what the environment says wins.
BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    # Otherwise models go to Unity Catalog's storage by each cloud's own library.
    "MLFLOW_USE_DATABRICKS_SDK_MODEL_ARTIFACTS_REPO_FOR_UC": "true",
}
# What to do about a reason that MLflow gives, and what to say instead of one that explains nothing.
CURES = {
    r"error code 401|UNAUTHENTICATED|^401 ": "set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    r"error code 403|PERMISSION_DENIED|^403 ": "this user may not do it; ask for the right to edit "
    "the experiment and the registered model",
    r"too many \d+ error responses": "it was asked several times; look into the server's log",
}
REASONS = {
    r"disk is full": ": no space left on its disk; make room and run it again",
    r"certificate verify failed": ": its certificate is not trusted; "
    "MLFLOW_TRACKING_SERVER_CERT_PATH names the one that is",
    r"timed out": " is slow to answer; MLFLOW_HTTP_REQUEST_TIMEOUT says for how many seconds to "
    "wait",
    r"Max retries exceeded|Connection aborted": " does not answer; nothing that was made is lost: "
    "start the server and try again",
}
# Whose exceptions say what a store or its client refused.
CLIENTS = (
    *("mlflow", "requests", "sqlalchemy", "databricks"),
    *("boto3", "botocore", "azure", "google"),
)


def uri(root: Path) -> str:
    """`MLFLOW_TRACKING_URI`, a path in it relative to `root`, or a SQLite file below `root`."""
    named = given(os.environ, VARIABLE)
    if not named:
        return f"sqlite:///{(root / EMBEDDED).resolve() / STORE}"
    relative = re.fullmatch(r"(sqlite:///|file:|(?=\.))(?!/)([^:]+)", named)
    return f"{relative[1]}{(root / relative[2]).resolve()}" if relative else named


def display_uri(root: Path) -> str:
    """The tracking URI without credentials, for messages."""
    return without_credentials(uri(root))


def is_named() -> bool:
    """Whether the environment names a tracking server, or another store."""
    return bool(given(os.environ, VARIABLE))


def has_registry() -> bool:
    """Whether the environment names a registry of its own."""
    return bool(given(os.environ, REGISTRY))


def has_unity_catalog(root: Path) -> bool:
    """Whether the registry is Unity Catalog, as MLflow has it by default behind `databricks`."""
    registry = given(os.environ, REGISTRY)
    return bool(re.match("databricks-uc(://|$)", registry)) or (
        not registry and _is_databricks(root)
    )


def experiment_name(model: str, root: Path) -> str:
    """The experiment's name: `MLFLOW_EXPERIMENT_NAME`, or the model's, on Databricks in /Shared.

    Raises UserError where Databricks would refuse the experiment's or the registered model's name.
    """
    if has_unity_catalog(root) and not re.fullmatch(r"[^.]+(\.[^.]+){2}", model):
        raise UserError(
            f"model: found {model!r}, expected CATALOG.SCHEMA.NAME, for the registry of "
            f"{REGISTRY} or {VARIABLE} is Unity Catalog"
        )
    named = given(os.environ, EXPERIMENT)
    if not _is_databricks(root):
        return named or model
    if named and not re.fullmatch(r"(/[^/]+){2,}", named):
        raise UserError(
            f"{EXPERIMENT}: found {named!r}, expected an absolute path of the Databricks "
            f"workspace, such as /Shared/{model}"
        )
    return named or f"/Shared/{model}"


def _is_databricks(root: Path) -> bool:
    return bool(re.match("databricks(://|$)", uri(root)))


@contextmanager
def mlflow_errors(root: Path) -> Iterator[None]:
    """Turn the errors of MLflow, and of the stores behind it, into a UserError of one line."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in CLIENTS:
            raise
        raise refused(root, error) from None


def refused(root: Path, error: Exception) -> UserError:
    """What went wrong with the tracking server, and the cure where one is known."""
    text = f"{getattr(error, 'error_code', '')} {error}".strip()
    reason = f": {without_credentials(one_line(error))}"
    if cure := _matching(CURES, text):
        reason = f"{reason}; {cure}"
    else:
        reason = _matching(REASONS, text) or reason
    registry = f", {REGISTRY} {without_credentials(given(os.environ, REGISTRY))}"
    return UserError(f"{VARIABLE}: {display_uri(root)}{registry * has_registry()}{reason}")


def _matching(texts: dict[str, str], text: str) -> str:
    return next((texts[pattern] for pattern in texts if re.search(pattern, text)), "")


def require_usable(root: Path) -> None:
    """Raise UserError when a server does not answer, lets nobody in, or is too old.

    Asked with MLflow's own client, so that its settings for certificates and users count.
    """
    for name, value in BOUNDS.items():
        os.environ.setdefault(name, value)
    server = uri(root)
    if not server.startswith(("http://", "https://")):
        return
    from mlflow.utils import credentials, rest_utils

    credentials_of: Any = credentials.get_default_host_creds
    request: Any = rest_utils.http_request
    with mlflow_errors(root):
        response = request(
            credentials_of(server), "/version", "GET", max_retries=1, timeout=ANSWER_SECONDS,
            raise_on_status=False,
        )  # fmt: skip
    if response.status_code >= 500 or response.status_code in (401, 403):
        raise refused(root, Exception(f"{response.status_code} {response.reason}"))
    version = re.match(r"(\d+)\.(\d+)", response.text)
    # A proxy may show nothing but the API.
    if response.ok and version and (int(version[1]), int(version[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        line = f"found MLflow {one_line(response.text)}, expected {oldest} or newer"
        raise UserError(f"{VARIABLE}: {display_uri(root)}: {line}; nothing was written")
