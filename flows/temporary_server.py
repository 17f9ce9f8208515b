"""A Prefect server for one command, where none is named: `python -m flows.temporary_server PORT`.

It logs to a file and not to the screen, and ends with the process that started it, however that
one ends.
"""

from __future__ import annotations

import atexit
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from mlops.base import processes
from mlops.base.errors import UserError, nearest
from mlops.pipeline import servers, stage

VARIABLE = "PREFECT_API_URL"
HOME, PROFILE = "PREFECT_HOME", "PREFECT_PROFILE"
# What Prefect has without a file of profiles.
BUILT_IN = ("ephemeral", "local", "test", "cloud")
LOG = Path("logs/prefect-server.log")
# Of the temporary server, where this process has one.
address = ""


def start_where_needed(root: Path) -> None:
    """Name a temporary server in the environment, unless that or a profile names a server.

    Before Prefect is imported, which reads the environment then. Raises UserError for a home or a
    profile that can't be used, or a server that does not start.
    """
    global address
    home = _home(root)
    if os.environ.get(VARIABLE) or VARIABLE in _profile(home):
        return
    port = processes.free_port()
    url = f"http://{processes.HOST}:{port}"
    command = [sys.executable, "-m", "flows.temporary_server", str(port)]
    pid = processes.start(command, root / LOG, root)
    # Before Prefect registers that it sends its last lines then, and so after it.
    atexit.register(processes.stop, [pid])
    health = url + servers.HEALTH["prefect"]
    if not processes.wait(lambda: processes.answers(health), lambda: processes.runs(pid)):
        raise UserError(f"a temporary Prefect server did not start; see {root / LOG}")
    address = os.environ[VARIABLE] = f"{url}/api"


def _home(root: Path) -> Path:
    """Prefect's folder, made where it is missing; `prefect.toml` names the same."""
    home = Path(os.environ.get(HOME) or root / ".prefect").expanduser()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{HOME}: {home}: can't be made: {error.strerror}") from None
    if not os.access(home, os.W_OK):
        raise UserError(f"{HOME}: {home}: found no right to write there")
    return home


def _profile(home: Path) -> dict[str, Any]:
    """The settings of the active profile."""
    file = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    content = tomllib.loads(file.read_text()) if file.exists() else {}
    profiles, name = content.get("profiles", {}), os.environ.get(PROFILE)
    if name and name not in (*profiles, *BUILT_IN):
        hint = nearest(name, profiles) or "; unset it"
        raise UserError(f"{PROFILE}: found {name!r}, no profile in {file}{hint}")
    settings: dict[str, Any] = profiles.get(name or content.get("active"), {})
    return settings


if __name__ == "__main__":
    stage.end_with_parent()
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    uvicorn.run(
        app, host=processes.HOST, port=int(sys.argv[1]), log_level="error", lifespan="on",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
