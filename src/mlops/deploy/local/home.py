"""What the local target keeps of an environment: what is deployed, and what was started here.

`.run/local/ENVIRONMENT/` says what is deployed, and may travel: a forge's cache carries it from
runner to runner. `.run/serving/ENVIRONMENT/` belongs to this machine's processes, and stays here.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from mlops.base.files import folder_digest

HOME = Path(".run/local")
PROCESSES = Path(".run/serving")
CURRENT = "current"
STATE = "state.json"
ADDRESS = "supervisor.json"
LOCK = "lock"
LOG = "log"
SAMPLES = "samples"


@dataclass(frozen=True)
class Deployed:
    """One bundle: the percentage of the requests that it answers, of those that it only sees."""

    percent: int = 0
    mirror: int = 0
    version: str = ""


@dataclass(frozen=True)
class State:
    """What is deployed, by digest; port 0 is not chosen yet."""

    bundles: dict[str, Deployed] = field(default_factory=dict)
    port: int = 0
    note: str = ""

    def without(self, digest: str) -> State:
        """All but one."""
        return replace(self, bundles={n: b for n, b in self.bundles.items() if n != digest})


@dataclass(frozen=True)
class Address:
    """Where a supervisor is told things, and the key that it wants to hear first.

    `born` is when its lock was made, to the nanosecond: a copy of it was made later.
    """

    pid: int
    port: int
    key: str
    born: int


@dataclass(frozen=True)
class Home:
    """One environment's folders below a repository."""

    root: Path
    environment: str

    @property
    def folder(self) -> Path:
        """What is deployed."""
        return self.root / HOME / self.environment

    @property
    def processes(self) -> Path:
        """What was started on this machine."""
        return self.root / PROCESSES / self.environment

    @property
    def lock(self) -> Path:
        """What a supervisor holds as long as it lives."""
        return self.processes / LOCK

    def state(self) -> State | None:
        """What is deployed; None when nothing is."""
        try:
            return msgspec.json.decode((self.folder / STATE).read_bytes(), type=State)
        except FileNotFoundError:
            # Killed in the middle of the first deployment, or placed before there was a state.
            named = self._current()
            return State({named: Deployed(100)}) if named else None

    def save(self, state: State) -> None:
        """Deploy this from now on. `current` names what answers every request."""
        for digest, bundle in state.bundles.items():
            if bundle.percent == 100:
                write(self.folder / CURRENT, f"{digest}\n".encode())
        write(self.folder / STATE, msgspec.json.format(msgspec.json.encode(state), indent=2))

    def proved(self) -> dict[str, str]:
        """The names of the bundles that are deployed, by the digests of their very bytes."""
        state = self.state() or State()
        places = {name: self.folder / name for name in state.bundles}
        return {folder_digest(p): name for name, p in places.items() if p.is_dir()}

    def started_here(self) -> bool:
        """Whether this machine started processes for this very folder, and not for a copy of it."""
        address = self.address()
        try:
            return address is not None and address.born == os.stat(self.lock).st_ctime_ns
        except FileNotFoundError:
            return False

    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        try:
            place = os.open(self.lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(place)
        return False

    def address(self) -> Address | None:
        """The supervisor's address; None while it has none."""
        try:
            return msgspec.json.decode((self.processes / ADDRESS).read_bytes(), type=Address)
        except FileNotFoundError:
            return None

    def _current(self) -> str:
        try:
            return (self.folder / CURRENT).read_text().strip()
        except FileNotFoundError:
            return ""


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file that is whole or not there."""
    aside = path.with_name(f".{path.name}.part")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    os.replace(aside, path)
