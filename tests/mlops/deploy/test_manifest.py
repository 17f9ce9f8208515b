"""Manifests: checked to the key, kept to the byte above the pin."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.registry.pin import Contents, Pin

REPOSITORY = Path(__file__).parents[3]
PIN = Pin(
    model="trips",
    version=3,
    digest="a" * 64,
    evidence="b" * 64,
    run="0f3c",
    commit="c" * 40,
    data="d" * 64,
    dvc=Contents(bundle="e" * 32 + ".dir", evidence="f" * 32 + ".dir"),
    metrics={"roc_auc": 0.74},
)
TEXT = "# Ours.\ntarget: local\nendpoint: trips\npin: null\n"


@pytest.fixture
def root(tmp_path):
    """A folder with two environments."""
    (tmp_path / manifest.FOLDER).mkdir()
    for name in ("production", "staging"):
        (tmp_path / manifest.path(name)).write_text(TEXT)
    return tmp_path


def test_environments_come_in_the_order_that_a_model_moves_through_them(root):
    assert manifest.names(root) == ["staging", "production"]
    assert manifest.load(root, "staging").target == "local"


def test_the_schema_that_editors_use_is_the_one_that_is_enforced():
    assert (REPOSITORY / manifest.SCHEMA).read_text() == manifest.schema()
    assert json.loads(manifest.schema())["additionalProperties"] is False


def test_a_pin_that_is_written_is_the_pin_that_is_read():
    assert manifest.parse(manifest.with_pin(TEXT, PIN), "here").pin == PIN


def test_a_manifest_of_before_there_were_rollouts_has_the_defaults():
    rollout = manifest.parse(TEXT, "here").rollout
    assert rollout.steps == (10, 50)
    assert (rollout.bake_seconds, rollout.requests, rollout.shadow) == (60, 100, False)
    assert rollout.limits == manifest.Limits(errors=0.01, latency=2.0, drift=0.2)


def test_a_rollout_is_kept_when_a_pin_is_written():
    text = TEXT.replace("pin:", "rollout: {steps: [], shadow: true}  # Ours.\npin:")
    parsed = manifest.parse(manifest.with_pin(text, PIN), "here")
    assert (parsed.rollout.steps, parsed.rollout.shadow, parsed.pin) == ((), True, PIN)


def test_a_pin_that_is_written_twice_is_written_once():
    once = manifest.with_pin(TEXT, PIN)
    assert manifest.with_pin(once, PIN) == once
    assert manifest.with_pin(once, None) == TEXT


@given(st.text(alphabet="abc #:-'\"", max_size=40))
def test_what_people_wrote_above_the_pin_is_kept_to_the_byte(words):
    text = f"# {words}\n{TEXT}"
    assert manifest.with_pin(text, PIN).startswith(text.removesuffix("pin: null\n"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"traget": "local"}, "traget: unknown key; did you mean 'target'?"),
        ({"target": ""}, "target: found '', expected text"),
        ({"rollout": {"stesp": []}}, "rollout.stesp: unknown key; did you mean 'steps'?"),
        (
            {"rollout": {"limits": {"drfit": 1}}},
            "rollout.limits.drfit: unknown key; did you mean 'drift'?",
        ),
        ({"rollout": {"steps": [50, 10]}}, "rollout: found {'steps': [50, 10]}, expected steps "),
        ({"rollout": {"steps": [100]}}, "rollout.steps.0: found 100, expected less than"),
        ({"rollout": {"bake_seconds": -1}}, "rollout.bake_seconds: found -1, expected greater"),
        ({"endpoint": "No!"}, "endpoint: found 'No!', expected"),
        ({"pin": {"model": "m"}}, "pin.version: missing"),
        ({"pin": {**PIN.model_dump(), "digest": "xyz"}}, "pin.digest: found 'xyz'"),
        (
            {"pin": {**PIN.model_dump(), "dgest": "x"}},
            "pin.dgest: unknown key; did you mean 'digest'?",
        ),
    ],
)
def test_a_wrong_key_is_named_with_what_was_found(change, reason):
    content = {**yaml.safe_load(TEXT), **change}
    pin = content.pop("pin")
    with pytest.raises(UserError) as error:
        manifest.parse(
            yaml.safe_dump({**content, "pin": pin}, sort_keys=False), "environments/x.yaml"
        )
    assert str(error.value).startswith(f"environments/x.yaml: {reason}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "here: found nothing, expected keys and values"),
        ("a: [", "here: line 1: expected the node content"),
        ("pin: null\ntarget: local\nendpoint: trips\n", "pin: found above 'endpoint'"),
    ],
)
def test_what_is_no_manifest_is_said_to_be_none(text, reason):
    with pytest.raises(UserError, match=reason):
        manifest.parse(text, "here")


def test_an_environment_that_is_not_there_gets_the_nearest_name(root):
    with pytest.raises(UserError, match="did you mean 'production'"):
        manifest.load(root, "produktion")


def test_a_target_that_is_not_there_gets_the_nearest_name(root):
    (root / manifest.path("staging")).write_text(TEXT.replace("local", "kubernets"))
    with pytest.raises(UserError) as error:
        manifest.load(root, "staging")
    assert str(error.value) == (
        "environments/staging.yaml: target: found 'kubernets'; did you mean 'kubernetes'?"
    )


def test_a_name_of_another_form_is_refused_with_the_form_that_it_should_have():
    text = "target: local\nendpoint: Bad Name\npin: null\n"
    with pytest.raises(UserError) as error:
        manifest.parse(text, "environments/staging.yaml")
    assert str(error.value) == (
        "environments/staging.yaml: endpoint: found 'Bad Name', expected text that matches "
        "^[a-z][a-z0-9-]{1,30}[a-z0-9]$"
    )
