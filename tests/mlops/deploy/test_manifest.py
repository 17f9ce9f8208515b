"""Manifests: checked to the key, kept to the byte above the pin."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops.base.errors import UserError
from mlops.deploy import manifest
from tests.conftest import REPOSITORY
from tests.mlops.deploy import small

PIN = small.pin("a" * 64, 3).model_copy(update={"metrics": {"roc_auc": 0.74}})
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


def test_a_pin_that_is_written_is_read_beside_the_rollout_that_is_kept():
    text = TEXT.replace("pin:", "rollout: {steps: [], shadow: true}  # Ours.\npin:")
    parsed = manifest.parse(manifest.with_pin(text, PIN), "here")
    assert (parsed.rollout.steps, parsed.rollout.shadow, parsed.pin) == ((), True, PIN)


@given(st.text(alphabet="abc #:-'\"", max_size=40))
def test_what_people_wrote_above_the_pin_is_kept_to_the_byte(words):
    text = f"# {words}\n{TEXT}"
    once = manifest.with_pin(text, PIN)
    assert once.startswith(text.removesuffix("pin: null\n"))
    assert manifest.with_pin(once, PIN) == once
    assert manifest.with_pin(once, None) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEXT.replace("endpoint: trips\n", "") + "endpoint: trips\n",
         "pin: found above 'endpoint', expected last"),
        ("{target: local, endpoint: trips, pin: null}",
         "pin: expected at the beginning of its line, without quotes"),
        (TEXT.replace("pin:", '"pin":'),
         "pin: expected at the beginning of its line, without quotes"),
    ],
)  # fmt: skip
def test_a_manifest_that_hides_a_key_or_its_pin_is_refused(text, reason):
    with pytest.raises(UserError) as error:
        manifest.parse(text, "here")
    assert str(error.value) == f"here: {reason}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"traget": "local"}, "traget: unknown key; did you mean 'target'?"),
        ({"rollout": {"limits": {"drfit": 1}}},
         "rollout.limits.drfit: unknown key; did you mean 'drift'?"),
        ({"rollout": {"steps": [50, 10]}}, "rollout: found {'steps': [50, 10]}, expected steps "),
        ({"rollout": {"steps": [100]}}, "rollout.steps.0: found 100, expected less than"),
        ({"endpoint": "Bad Name"}, "endpoint: found 'Bad Name', expected text that matches "
                                   "^[a-z][a-z0-9-]{1,30}[a-z0-9]$"),
        ({"serving": {"store": "redis"}}, "serving: found {'store': 'redis'}, expected features, "),
        ({"serving": {"store": "redis", "features": "redis"}},
         "serving: found {'store': 'redis', 'features': 'redis'}, expected features as VARIABLE/"),
        ({"pin": {"model": "m"}}, "pin.version: missing"),
        ({"pin": {**PIN.model_dump(), "digest": "xyz"}}, "pin.digest: found 'xyz'"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_with_what_was_found(change, reason):
    content = {**yaml.safe_load(TEXT), **change}
    pin = content.pop("pin")
    text = yaml.safe_dump({**content, "pin": pin}, sort_keys=False)
    with pytest.raises(UserError) as error:
        manifest.parse(text, "environments/x.yaml")
    assert str(error.value).startswith(f"environments/x.yaml: {reason}")


def test_an_environment_or_a_target_that_is_not_there_gets_the_nearest_name(root):
    with pytest.raises(UserError, match="did you mean 'production'"):
        manifest.load(root, "produktion")
    (root / manifest.path("staging")).write_text(TEXT.replace("local", "kubernets"))
    with pytest.raises(UserError) as error:
        manifest.load(root, "staging")
    assert str(error.value) == (
        "environments/staging.yaml: target: found 'kubernets'; did you mean 'kubernetes'?"
    )
