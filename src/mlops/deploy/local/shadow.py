"""Whether two bundles answered the same request with the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

# What one process or another may make of the last bits of a float32.
TOLERANCE = 1e-6


def differ(served: bytes, shadow: bytes) -> bool:
    """Whether two answers, JSON in any of the service's protocols, say different things."""
    try:
        one, other = (list(_leaves(_told(body))) for body in (served, shadow))
    except msgspec.DecodeError:
        return served != shadow
    return len(one) != len(other) or any(map(_apart, one, other))


def _told(body: bytes) -> Any:
    """What was predicted, without who said so."""
    content = msgspec.json.decode(body)
    if not isinstance(content, dict):
        return content
    return content.get("predictions", content.get("outputs", content))


def _leaves(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        content = [content[name] for name in sorted(content)]
    if isinstance(content, list):
        for part in content:
            yield from _leaves(part)
    else:
        yield content


def _apart(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return not math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one != other)
