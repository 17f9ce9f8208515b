"""The files of one environment of the local target.

`.run/local/ENVIRONMENT/` says what is deployed, and may travel: a forge's cache carries it from
runner to runner. `.run/serving/ENVIRONMENT/` belongs to the processes of this machine, and stays.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec

from mlops.base.files import alone, folder_digest, whole_file, write_json

HOME, PROCESSES = Path(".run/local"), Path(".run/serving")
STATE, SAMPLES = "state.json", "samples"
# Of the state and the status; another one with every change of what they mean.
FORM = 1
ADDRESS, LOCK, LOG = "supervisor.json", "lock", "log"


@dataclass(frozen=True)
class Deployed:
    """One bundle: the percentage of the requests that it answers, and of those copied to it.

    `options` are those of its service by which it looks features up.
    """

    percent: int = 0
    mirror: int = 0
    version: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What is deployed, by digest; port 0 is not chosen yet."""

    bundles: dict[str, Deployed] = field(default_factory=dict)
    port: int = 0
    note: str = ""


@dataclass
class Process:
    """A bundle's process, and its answers since the supervisor started it.

    It is `ready` as long as it reports the bundle's digest, and `tried` once it was; `reason` is
    the last that went wrong. The numbers from `requests` on are those of `target.Health`.
    """

    ready: bool = False
    tried: bool = False
    port: int = 0
    pid: int = 0
    restarts: int = 0
    reason: str = ""
    requests: int = 0
    errors: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Status:
    """The state that a supervisor serves, on which port, and by which processes.

    `stopping` counts the processes of removed bundles that have not ended yet. A supervisor of an
    earlier version of this code has another `form`.
    """

    state: State
    port: int
    stopping: int
    bundles: dict[str, Process]
    form: int = 0


@dataclass(frozen=True)
class Address:
    """The supervisor's process and status port, and the bearer token of its scoring processes.

    `born` is when its lock was made, in nanoseconds: a copy of the folder has a later lock.
    """

    pid: int
    port: int
    token: str
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
        """What was started on this machine; a supervisor holds the lock there while it runs."""
        return self.root / PROCESSES / self.environment

    def state(self) -> State:
        """What is deployed; bundles whose folder was removed are left out."""
        try:
            state = msgspec.json.decode((self.folder / STATE).read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        present = {n: one for n, one in state.bundles.items() if (self.folder / n).is_dir()}
        return replace(state, bundles=present)

    def change(self, edit: Callable[[State], State]) -> State:
        """Replace the state, alone in the repository; no bundles, no state."""
        with alone(self.root / HOME):
            state = edit(self.state())
            if state.bundles:
                write_json(self.folder / STATE, asdict(state))
            else:
                (self.folder / STATE).unlink(missing_ok=True)
        return state

    def names(self) -> dict[str, str]:
        """The names of the deployed bundles, by the digests computed from their bytes."""
        return {folder_digest(self.folder / name): name for name in self.state().bundles}

    def address(self) -> Address | None:
        """The supervisor's address; None while it has none."""
        with suppress(FileNotFoundError):
            return msgspec.json.decode((self.processes / ADDRESS).read_bytes(), type=Address)
        return None

    def announce(self, address: Address) -> None:
        """Write the supervisor's address, which only this user may read for its token."""
        with whole_file(self.processes / ADDRESS, 0o600) as partial:
            partial.write_bytes(msgspec.json.encode(address))

    def started_here(self) -> bool:
        """Whether this machine started processes for this very folder, and not for a copy of it."""
        address, lock = self.address(), self.processes / LOCK
        return bool(address and lock.exists() and address.born == lock.stat().st_ctime_ns)

    def supervised(self) -> bool:
        """Whether a supervisor runs."""
        try:
            with (self.processes / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False
