"""What judges a branch: files of the forge and of the project, and sections of the parameters."""

from __future__ import annotations

from pathlib import Path

from mlops.base import documents
from mlops.base.errors import UserError
from mlops.contract.params import FILE
from mlops.deploy import manifest
from mlops.forge import git

# What a forge reads at the repository's top, wherever in it the project lies.
FORGE = (".github/", ".azure/", "azure-pipelines.yml", "CODEOWNERS", "docs/CODEOWNERS")
PROJECT = (
    ".ci/", "Makefile", "pyproject.toml", "dvc.yaml", "requirements.lock", "infra/", "flows/",
    "src/mlops/",
)  # fmt: skip
# The others say what is made, not how it is judged, released and watched.
SECTIONS = ("split", "evaluate", "gate", "release", "monitoring")


def files(root: Path) -> tuple[str, ...]:
    """How the names of files begin, from the repository's top, that judge the project here.

    They are the forge's, the machinery, the project's own rules, and the keys of signers.
    """
    gate = documents.read(root / FILE, "the pipeline's parameters").get("gate") or {}
    rules = (f"src/{name.replace('.', '/')}" for name in gate.get("rules", ()) if "." in name)
    named = [end for rule in rules for end in (f"{rule}.py", f"{rule}/")]
    places = [manifest.path(name) for name in manifest.names(root)]
    # Not loaded: a target of one is too much for a job that only comments.
    signers = [manifest.parse((root / place).read_text(), str(place)).signer for place in places]
    named += [file for one in signers if one for file in (one.key, one.trust) if file]
    within = git.prefix(root)
    return (*FORGE, *(f"{within}{name}" for name in (*PROJECT, *named)))


def among(root: Path, names: list[str]) -> list[str]:
    """Those files of a repository, named from its top, that judge the project here."""
    judging = files(root)
    return [name for name in names if name.startswith(judging)]


def changed(root: Path, base: str) -> list[str]:
    """The files that judge the project here and differ from a commit."""
    return among(root, git.changed(git.top(root), base))


def sections(before: str, after: str) -> list[str]:
    """Sections that decide and differ between two texts of the parameters; all of what is none."""
    try:
        old, new = (documents.parse(text, str(FILE)) for text in (before, after))
    except UserError:
        return [str(FILE)]
    return [f"{FILE}: {name}" for name in SECTIONS if old.get(name) != new.get(name)]
