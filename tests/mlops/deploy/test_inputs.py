"""What clients of a bundle notice of another one: columns, types, categories and outputs."""

import msgspec
import pytest

from mlops.contract.bundle import Card, Input
from mlops.deploy import inputs

NUMBER, WORD = Input("age", "float", "year"), Input("colour", "string", "category", ("blue", "red"))
CARD = Card(
    name="people", task="binary", target="late", classes=2, inputs=(NUMBER, WORD), example={},
    outputs=("probability",), threshold=0.5, family="linear", hyperparameters={}, trained_on={},
    parity=0.0, hashes={}, files={},
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ({}, {"inputs": (NUMBER,)}, "colour: removed"),
        ({"inputs": (NUMBER,)}, {}, "colour: new and required"),
        ({}, {"inputs": (Input("age", "string", "category"), WORD)}, "age: string, was float"),
        ({}, {"inputs": (NUMBER, Input("colour", "string", "category", ("red",)))},
         "colour: no category blue"),
        ({"optional": ("age",)}, {}, "age: required, was optional"),
        ({"retired": ("old",)}, {}, "old: refused, was ignored"),
        ({}, {"outputs": ("score",)}, "outputs: score, was probability"),
        ({}, {"labels": ("no", "yes")}, "classes: no, yes, was 0, 1"),
    ],
)  # fmt: skip
def test_what_clients_would_be_refused_for_is_named(before, now, change):
    old, new = (msgspec.structs.replace(CARD, **changes) for changes in (before, now))
    assert list(inputs.breaking(old, new)) == [change]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {}),
        ({}, {"inputs": (NUMBER,), "retired": ("colour",)}),
        ({"inputs": (NUMBER,)}, {"optional": ("colour",)}),
        ({}, {"inputs": (NUMBER, Input("colour", "string", "category", ("blue", "green", "red")))}),
        ({}, {"optional": ("age",)}),
        ({"retired": ("old",)}, {"retired": ("old", "older")}),
    ],
)
def test_what_takes_all_that_was_taken_breaks_nothing(before, now):
    old, new = (msgspec.structs.replace(CARD, **changes) for changes in (before, now))
    assert list(inputs.breaking(old, new)) == []
