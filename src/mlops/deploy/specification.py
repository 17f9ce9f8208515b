"""Specifications below `infra/`: YAML files with `${name}` placeholders that a deployment fills."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from mlops.base import documents
from mlops.base.errors import UserError, nearest

IMAGE = "MLOPS_SERVING_IMAGE"
SHORT = 12


def load(root: Path, place: Path, values: Mapping[str, str]) -> dict[str, Any]:
    """Load a specification and fill it in; UserError names the file and what is wrong with it."""
    if not (root / place).exists():
        raise UserError(f"{place}: not found")
    written = documents.text(root / place, "a specification")
    content = documents.parse(written, str(place), anchors=True)

    def filled(text: str) -> str:
        try:
            return Template(text).substitute(values)
        except KeyError as error:
            name = str(error.args[0])
            raise UserError(f"{place}: unknown ${{{name}}}{nearest(name, values)}") from None
        except ValueError:
            raise UserError(f"{place}: found {text!r}, expected ${{name}}, or $$ for a $") from None

    result: dict[str, Any] = replaced(content, filled)
    return result


def replaced(part: Any, change: Callable[[str], str]) -> Any:
    """A copy of what YAML holds, with every text in it changed, but no key."""
    if isinstance(part, dict):
        return {key: replaced(value, change) for key, value in part.items()}
    if isinstance(part, list):
        return [replaced(value, change) for value in part]
    return change(part) if isinstance(part, str) else part


def image() -> str:
    """The service's image by its digest, from the environment: what a tag names may change."""
    name = os.environ.get(IMAGE, "").strip()
    if not re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", name):
        raise UserError(f"{IMAGE}: found {name!r}, expected NAME@sha256:DIGEST")
    return name


def name_of(digest: str) -> str:
    """The name of a bundle's deployment, short enough for every platform."""
    return f"bundle-{digest[:SHORT]}"
