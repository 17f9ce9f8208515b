"""PostgreSQL with a database for each server, on loopback, behind a password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import UserError
from mlops.base.processes import HOST
from mlops.stack.home import Home

if TYPE_CHECKING:
    from mlops.stack.parts import Part

DATABASES = ("mlflow", "prefect")
USER = "mlops"
# It refuses to run as root; Debian's package brings a user of its own.
RUNS_AS = "postgres"
HOW = "install PostgreSQL (Debian: apt-get install postgresql)"


def part(home: Home) -> Part:
    """The server's process; its files are made at the first start."""
    from mlops.stack.parts import Part

    folder = home.folder / "postgres"
    if not (folder / "PG_VERSION").exists():
        _init(home, folder)
    # What runs is told nothing by way of a socket: its path may be longer than one may be.
    command = (
        str(_program("postgres")), "-D", str(folder), "-h", HOST, "-p",
        str(home.ports["postgres"]), "-k", "", "-c", "max_connections=200",
    )  # fmt: skip
    return Part(
        "postgres", command, f"{HOST}:{home.ports['postgres']}", partial(_answers, home),
        then=partial(_make_databases, home), user=_user(),
    )  # fmt: skip


def _init(home: Home, folder: Path) -> None:
    """An empty cluster. No list of processes shows the password."""
    user = _user()
    program = _program("initdb")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user, user)
    with tempfile.NamedTemporaryFile("w") as password:
        password.write(home.password)
        password.flush()
        if user:
            shutil.chown(password.name, user, user)
        done = subprocess.run(
            [program, "-D", folder, "-U", USER, "-A", "scram-sha-256", "-E", "UTF8",
             "--no-locale", "--no-sync", f"--pwfile={password.name}"],
            capture_output=True, text=True, check=False, cwd="/",
            user=user, group=user, extra_groups=[] if user else None,
        )  # fmt: skip
    if done.returncode:
        shutil.rmtree(folder)
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"initdb: {said[-1] if said else 'no reason given'}")


def _program(name: str) -> Path:
    """Debian keeps the programs beside the PATH, a folder for each version."""
    from mlops.stack.parts import program

    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return Path(program(name, HOW, *places))


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(RUNS_AS).pw_name
    except KeyError:
        raise UserError(f"{RUNS_AS}: no such user, and root can't run it; {HOW}") from None


def _answers(home: Home) -> bool:
    import psycopg2

    try:
        psycopg2.connect(home.database("postgres"), connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def _make_databases(home: Home) -> None:
    import psycopg2

    connection = psycopg2.connect(home.database("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        known = {name for (name,) in cursor.fetchall()}
        for name in DATABASES:
            if name not in known:
                cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()
