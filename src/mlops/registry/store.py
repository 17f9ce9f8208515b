"""Bundles by digest: fetched from the first store that has them, and verified to the byte.

A fetched bundle lies in `.run/bundles/<digest>/`, laid out as a workspace is: `models/bundle`
and, where it could be had, `reports`. Without a DVC remote, what is released is kept on the Git
branch `bundles`, each part in the folder of its own digest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlops.base.errors import UserError, one_line
from mlops.base.files import folder_digest, whole_folder
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.forge import branches, git
from mlops.pipeline import remotes, tracking, tracking_server
from mlops.registry.pin import BRANCH, Pin

STORE = Path(".run/bundles")


@dataclass(frozen=True)
class Part:
    """A folder that a pin names: its digest, and its names for DVC and MLflow."""

    path: Path
    digest: str
    dvc: str
    tag: str
    artifact: str


def fetch(pin: Pin, root: Path) -> Path:
    """The pinned bundle, and its evidence where it could be had, in a folder of its own.

    Raises UserError when no store has the bundle, or every copy has other bytes than pinned.
    """
    fetched = root / STORE / pin.digest
    parts = (
        Part(BUNDLE, pin.digest, pin.dvc.bundle, tracking.BUNDLE_TAG, "bundle"),
        Part(EVIDENCE, pin.evidence, pin.dvc.evidence, tracking.EVIDENCE_TAG, "evidence"),
    )
    places = [(fetched / part.path, part.digest) for part in parts]
    if all(place.is_dir() and folder_digest(place) == digest for place, digest in places):
        return fetched
    with whole_folder(fetched) as folder:
        for part in parts:
            reasons = _copy(part, pin.model, root, folder / part.path)
            if reasons and part.path == BUNDLE:
                cure = "`mlops publish` in the clone that made it puts it into DVC's remote"
                raise UserError(f"bundle {pin.digest[:12]}: {reasons}; {cure}")
    bundle.read_card(fetched / BUNDLE)
    return fetched


def _copy(part: Part, model: str, root: Path, target: Path) -> str:
    """Copy a part from the first store with its very bytes; "", or why no store has them."""
    reasons = []
    for name, copy in _stores(part, model, root, target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            copy()
            digest = folder_digest(target)
        # Whatever fails in one store, another may have it.
        except Exception as error:
            missing = isinstance(error, FileNotFoundError)
            reasons.append(f"{name}: {'not there' if missing else one_line(error)}")
        else:
            if digest == part.digest:
                return ""
            reasons.append(f"{name}: found digest {digest[:12]}, expected {part.digest[:12]}")
        shutil.rmtree(target, ignore_errors=True)
    return "; ".join(reasons)


def _stores(
    part: Part, model: str, root: Path, target: Path
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The stores in the order in which they are asked. What they give is verified."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    names: list[str] = []
    with suppress(NotDvcRepoError), Repo(str(root)) as repo:
        names = remotes.every(repo)
    yield "DVC's cache", partial(_from_dvc, part, root, target)
    for name in names:
        yield f"DVC's remote {name!r}", partial(_from_dvc, part, root, target, name)
    yield "Git", partial(_from_git, part, root, target)
    yield "MLflow", partial(_from_mlflow, part, model, root, target)


def _from_dvc(part: Part, root: Path, target: Path, remote: str = "") -> None:
    """Copy a folder by the name of its content; DVC's own `pull` of a name brings no files."""
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    with Repo(str(root)) as repo:
        if remote:
            remotes.require_answer(repo, remote)
        objects = repo.cloud.get_remote_odb(remote) if remote else repo.cache.local
        files = {
            str(target.joinpath(*key)): objects.oid_to_path(file.value)
            for key, _, file in Tree.load(objects, HashInfo("md5", part.dvc))
        }
        objects.fs.get(list(files.values()), list(files))


def _from_git(part: Part, root: Path, target: Path) -> None:
    """A folder of the branch that releases push, as the remote has it, or this clone fetched it."""
    fetched = f"refs/remotes/{git.remote(root)}/{BRANCH}"
    try:
        head = branches.head(root, BRANCH)
    except git.GitError:
        # A job that runs a training may not ask a private remote.
        if not git.exists(root, fetched):
            raise
        head = fetched
    files = branches.folder_at(root, head, Path(part.digest) / part.path) if head else {}
    if not files:
        raise FileNotFoundError
    for path, content in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(content)


def _from_mlflow(part: Part, model: str, root: Path, target: Path) -> None:
    """The artifacts of the run that made it, in the tracking server."""
    if not tracking.has_store(root):
        raise UserError("nothing was tracked here")
    client, experiment = tracking.connect(model, root)
    run = tracking.find(client, experiment, part.tag, part.digest)
    if run is None:
        raise UserError(f"no run of it in {tracking_server.display_uri(root)}")
    Path(client.download_artifacts(run, part.artifact, str(target.parent))).rename(target)
