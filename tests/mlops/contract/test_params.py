"""Whatever is wrong with params.yaml is said in one line, with the nearest right name."""

import datetime as dt
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.base.errors import UserError
from mlops.contract import params
from tests.conftest import PROJECTS

TEXT = (PROJECTS / "params.yaml").read_text()


def complaint(folder: Path, text: str) -> str:
    (folder / "params.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        params.load_all(folder)
    return str(error.value).removeprefix(f"{folder}/")


def complaint_or_none(folder: Path) -> str | None:
    try:
        params.load_all(folder)
    except UserError as error:
        return str(error)
    return None


def test_parameters_read_back_as_they_are_written_and_cannot_be_changed():
    loaded = params.load_all(PROJECTS)
    assert isinstance(loaded.data.until, dt.date)
    assert loaded.model_dump(mode="json")["data"]["until"] == str(loaded.data.until)
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 1


@pytest.mark.parametrize(
    ("pattern", "replacement", "line"),
    [
        (r"^seed: .*", "sead: 1",
         "params.yaml: sead: unknown key; did you mean 'seed'? (and 1 more)"),
        (r"^  max_evals: .*", "  max_eval: 3",
         "params.yaml: tune.max_eval: unknown key; did you mean 'max_evals'? (and 1 more)"),
        (r"^  folds: .*", "",
         "params.yaml: split.folds: missing; expected a value"),
        (r"^  folds: .*", "  folds: three",
         "params.yaml: split.folds: found 'three', expected a whole number"),
        (r"^  until: .*", '  until: "2013-02-30"',
         "params.yaml: data.until: found '2013-02-30', expected a day such as 2013-12-31"),
        (r"^engine: .*", "engine: dukdb",
         "params.yaml: engine: found 'dukdb', expected 'duckdb' or 'spark'"
         "; did you mean 'duckdb'?"),
        (r"^  families: .*", "  families: lightgbm",
         "params.yaml: tune.families: found 'lightgbm', expected a list"),
        (r"^  families: .*", "  families: []",
         "params.yaml: tune.families: found [], expected at least one item"),
        (r"^  logs: .*", "  logs: ''",
         "params.yaml: monitoring.logs: found '', expected text"),
        (r"^  share: .*", "  share: 1.5",
         "params.yaml: monitoring.share: found 1.5, expected less than or equal to 1"),
        (r"^project: .*", "project: json",
         "params.yaml: project: found 'json', expected a name that neither Python nor this "
         "template uses"),
        (r"^model: .*", "model: team/wine",
         "params.yaml: model: found 'team/wine', expected text that matches "
         "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        (r"^  margin: .*", "  margin: .inf",
         "params.yaml: gate.margin: found inf, expected a finite number"),
        (r"^project: .*", "project: ../flights",
         "params.yaml: project: found '../flights', expected a package's name"),
    ],
)  # fmt: skip
def test_one_line_names_the_key_what_was_found_and_what_was_expected(
    tmp_path, pattern, replacement, line
):
    text, count = re.subn(pattern, replacement, TEXT, flags=re.MULTILINE)
    assert count == 1
    assert complaint(tmp_path, text) == line


def test_a_file_that_is_no_set_of_known_keys_is_refused(tmp_path):
    unknown = "params.yaml: zzz: unknown key; known: data, engine, "
    assert complaint(tmp_path, f"{TEXT}\nzzz: 1\n").startswith(unknown)
    assert complaint(tmp_path, "") == "params.yaml: found nothing, expected keys and values"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml: not found"):
        params.load_all(tmp_path)


WORDS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(yaml.safe_load(TEXT))), JSON)
@settings(max_examples=20)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("any")
    content = yaml.safe_load(TEXT) | {key: value}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    said = complaint_or_none(folder)
    assert said is None or (len(said.splitlines()) == 1 and f"params.yaml: {key}" in said)
