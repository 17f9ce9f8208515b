"""A real Docker engine, a registry, and a base for images made of Debian's packages.

The engine is the one that runs on this machine, else a daemon that the tests start, as root. The
base stands in for Python's official image, which is in no registry that the tests may rely on:
Debian with Python where that image has it, pushed to the registry, since bases are named by digest.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.files import read_json, write_json
from tests.programs import program

INSTALL = "make packages"
DEBIAN = "bookworm"
PACKAGES = ("python3.11", "python3.11-venv", "ca-certificates", "netbase", "tzdata")
# As the official image has it: below /usr/local, with pip, and without compiled files.
LAYOUT = """
set -eu; cd "$1"; library=usr/local/lib/python3.11
rm -rf $library; mkdir -p usr/local/bin; mv usr/lib/python3.11 usr/local/lib/
mv usr/bin/python3.11 usr/local/bin/
for name in python python3; do ln -sf python3.11 usr/local/bin/$name; done
mkdir $library/site-packages; ln -s site-packages $library/dist-packages
python3 -m zipfile -e usr/share/python-wheels/pip-*.whl $library/site-packages
find usr/local -name "*.pyc" -delete
"""
CERTIFICATES = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Engine:
    """A running engine: its folder, its address, the base's name, and the daemons' process ids."""

    folder: str
    host: str
    base: str
    pids: tuple[int, ...]

    @property
    def env(self) -> dict[str, str]:
        path = f"{self.folder}/bin{os.pathsep}{os.environ['PATH']}"
        host = {"DOCKER_HOST": self.host} if self.host else {}
        return {**os.environ, **host, "DOCKER_BUILDKIT": "1", "PATH": path}

    @property
    def gateway(self) -> str:
        """This machine's address, as containers reach it."""
        # Of a bridge that an earlier engine left, the gateway itself is not named.
        form = "{{(index .IPAM.Config 0).Subnet}}"
        subnet = self.docker("network", "inspect", "bridge", "-f", form)
        return str(ipaddress.ip_network(subnet)[1])

    def docker(self, *arguments: object) -> str:
        """What a command of Docker's client prints; the test fails where the command does."""
        return processes.run(["docker", *map(str, arguments)], env=self.env).strip()

    def build(self, *arguments: object) -> str:
        """Build an image on the base, with this machine's index and certificates; its id."""
        index = ["--secret", "id=index,env=PIP_INDEX_URL"] if "PIP_INDEX_URL" in os.environ else []
        secrets = [*index, "--secret", f"id=certificates,src={CERTIFICATES}"]
        return self.docker("build", "-q", "--build-arg", f"BASE={self.base}", *secrets, *arguments)

    def pushed(self, image: str, name: str) -> str:
        """Push an image; its name by digest."""
        target = f"{self.base.rsplit('/', 1)[0]}/{name}"
        self.docker("tag", image, target)
        self.docker("push", "-q", target)
        return self.docker("inspect", "-f", "{{index .RepoDigests 0}}", target)

    def layers(self, image: str) -> str:
        """The digests of an image's layers."""
        return self.docker("inspect", "-f", "{{json .RootFS.Layers}}", image)


def begin(record: Path) -> None:
    """Start the engine and its registry, make the base, and write what runs to a file."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-engine-"))
    (folder / "bin").mkdir()
    (folder / "bin/docker").symlink_to(_client())
    engine = Engine(str(folder), "", "", ())
    write_json(record, vars(engine))
    try:
        engine = _running(engine)
        write_json(record, vars(engine))
        engine = _registry(engine)
        write_json(record, vars(engine))
        engine = _based(engine)
    except BaseException:
        end(record)
        raise
    write_json(record, vars(engine))


def load(record: Path) -> Engine:
    """The engine that `begin` started."""
    content = read_json(record)
    return Engine(**{**content, "pids": tuple(content["pids"])})


def end(record: Path) -> None:
    """End what `begin` started, and remove all that it made."""
    engine = load(record)
    processes.stop(engine.pids[::-1])
    # Tens of thousands of files, which nobody has to wait for.
    subprocess.Popen(["rm", "-rf", engine.folder], start_new_session=True)


def _client() -> str:
    """Docker's client that can build with BuildKit: some come without what that needs."""
    for folder in os.environ["PATH"].split(os.pathsep):
        client = shutil.which("docker", path=folder)
        if client:
            done = subprocess.run(
                [client, "build", "--help"], env={**os.environ, "DOCKER_BUILDKIT": "1"},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 0 and "--secret" in done.stdout:
                return client
    return program("docker-with-buildkit", INSTALL)


def _answers(engine: Engine) -> bool:
    command = ["docker", "info"]
    return subprocess.run(command, env=engine.env, capture_output=True, check=False).returncode == 0


def _running(engine: Engine) -> Engine:
    """The engine of this machine where one answers, else a daemon of the tests' own."""
    if _answers(engine):
        return engine
    if os.geteuid():
        _without("no engine answers, and only root can start one")
    folder, log = Path(engine.folder), Path(engine.folder, "dockerd.log")
    host = f"unix://{folder}/docker.sock"
    command = [program("dockerd", INSTALL), "--host", host, "--data-root", folder / "data",
               "--exec-root", folder / "exec", "--pidfile", folder / "pid"]  # fmt: skip
    daemon = _daemon(list(map(str, command)), log)
    engine = Engine(engine.folder, host, "", (daemon.pid,))
    if not processes.wait(lambda: _answers(engine), lambda: daemon.poll() is None):
        lines = log.read_text().splitlines() or ["no reason given"]
        _without(f"dockerd does not run here: {lines[-1]}")
    return engine


def _without(reason: str) -> None:
    """Skip what needs an engine, and say so below the results too."""
    warnings.warn(f"NO IMAGE WAS BUILT: {reason}", RuntimeWarning, stacklevel=2)
    pytest.skip(reason)


def _daemon(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)


def _registry(engine: Engine) -> Engine:
    """The engine, with a registry on loopback, which engines trust without TLS."""
    folder, port = Path(engine.folder), processes.free_port()
    file = folder / "registry.json"
    storage = {"filesystem": {"rootdirectory": str(folder / "registry")}}
    write_json(file, {"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}})
    command = [program("docker-registry", INSTALL), "serve", str(file)]
    daemon = _daemon(command, folder / "registry.log")
    url = f"http://127.0.0.1:{port}/v2/"
    if not processes.wait(lambda: processes.answers(url), lambda: daemon.poll() is None):
        raise UserError((folder / "registry.log").read_text())
    base = f"127.0.0.1:{port}/base"
    return Engine(engine.folder, engine.host, base, (*engine.pids, daemon.pid))


def _based(engine: Engine) -> Engine:
    """The engine, with the base in its registry."""
    archive = Path(engine.folder, "base.tar")
    # On a disk, most of the time goes to waiting for it.
    memory = Path("/dev/shm")
    fast = memory.is_dir() and shutil.disk_usage(memory).free > 2e9
    place = str(memory) if fast else engine.folder
    root = ["sudo", "-n"] if os.geteuid() and shutil.which("sudo") else []
    processes.run([
        *root, "env", f"TMPDIR={place}", program("mmdebstrap", INSTALL), "--quiet",
        "--variant=apt", f"--include={','.join(PACKAGES)}", "--dpkgopt=force-unsafe-io",
        f"--customize-hook={LAYOUT}", DEBIAN, str(archive),
    ])  # fmt: skip
    engine.docker("import", archive, engine.base)
    archive.unlink()
    name = engine.pushed(engine.base, "base")
    return Engine(engine.folder, engine.host, name, engine.pids)
