"""A copy's params.yaml, changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def change(root: Path, changes: Mapping[str, Any]) -> None:
    """Set keys of params.yaml by their dotted names."""
    path = root / "params.yaml"
    content = yaml.load(path.read_text(), yaml.CSafeLoader)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = content
        for part in sections:
            # A section may be left out where all of its keys have defaults.
            section = section.setdefault(part, {})
        section[key] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))
