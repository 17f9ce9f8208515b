"""What clients of one bundle notice when another one takes over."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.base.errors import listed
from mlops.contract.bundle import Card


def breaking(before: Card, now: Card) -> Iterator[str]:
    """What the bundle `now` refuses, or answers in other columns, of what `before` answers."""
    old, new = ({column.name: column for column in card.inputs} for card in (before, now))
    for name, column in old.items():
        if name not in new:
            if name not in now.retired:
                yield f"{name}: removed"
        elif new[name].type != column.type:
            yield f"{name}: {new[name].type}, was {column.type}"
        elif gone := [one for one in column.categories if one not in new[name].categories]:
            yield f"{name}: no category {listed(gone)}"
    for name in before.retired:
        if name not in (*new, *now.retired):
            yield f"{name}: refused, was ignored"
    for name in new:
        if name not in now.optional and (name not in old or name in before.optional):
            yield f"{name}: {'required, was optional' if name in old else 'new and required'}"
    for what, was, has in (
        ("outputs", before.outputs, now.outputs),
        ("classes", before.class_names, now.class_names),
    ):
        if was != has:
            yield f"{what}: {', '.join(has)}, was {', '.join(was)}"
