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

REPOSITORY = Path(__file__).parents[3]
TEXT = (REPOSITORY / "params.yaml").read_text()


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


def test_the_repositorys_own_parameters_are_right():
    loaded = params.load_all(REPOSITORY)
    assert isinstance(loaded.data.until, dt.date)
    assert loaded.model_dump(mode="json")["data"]["until"] == str(loaded.data.until)


@pytest.mark.parametrize(
    ("pattern", "replacement", "line"),
    [
        (r"^seed: .*", "sead: 1",
         "params.yaml: sead: unknown key; did you mean 'seed'? (and 1 more)"),
        (r"^  max_evals: .*", "  max_eval: 3",
         "params.yaml: tune.max_eval: unknown key; did you mean 'max_evals'? (and 1 more)"),
        (r"^seed: .*", "",
         "params.yaml: seed: missing; expected a value"),
        (r"^  folds: .*", "",
         "params.yaml: split.folds: missing; expected a value"),
        (r"^  folds: .*", "  folds: three",
         "params.yaml: split.folds: found 'three', expected a whole number"),
        (r"^  folds: .*", "  folds: 2.5",
         "params.yaml: split.folds: found 2.5, expected a whole number"),
        (r"^  folds: .*", "  folds: 0",
         "params.yaml: split.folds: found 0, expected greater than or equal to 1"),
        (r"^  folds: .*", "  folds:",
         "params.yaml: split.folds: found nothing, expected a whole number"),
        (r"^  until: .*", "  until: 2013-12-31",
         'params.yaml: line 12: found the day 2013-12-31, expected it in quotes: "2013-12-31"'),
        (r"^  until: .*", '  until: "2013-02-30"',
         "params.yaml: data.until: found '2013-02-30', expected a day such as 2013-12-31"),
        (r"^engine: .*", "engine: dukdb",
         "params.yaml: engine: found 'dukdb', expected 'duckdb' or 'spark'"
         "; did you mean 'duckdb'?"),
        (r"^  source: .*", "  source: database",
         "params.yaml: data.source: found 'database', expected 'package' or 'files'"),
        (r"^  families: .*", "  families: lightgbm",
         "params.yaml: tune.families: found 'lightgbm', expected a list"),
        (r"^  families: .*", "  families: []",
         "params.yaml: tune.families: found [], expected at least one item"),
        (r"^seed: .*", "seed: true",
         "params.yaml: seed: found True, expected a whole number"),
        (r"^  logs: .*", "  logs: ''",
         "params.yaml: monitoring.logs: found '', expected text"),
        (r"^  labels: .*", "  labels: [a]",
         "params.yaml: monitoring.labels: found ['a'], expected text"),
        (r"^  hours: .*", "  hour: 24",
         "params.yaml: monitoring.hour: unknown key; did you mean 'hours'? (and 1 more)"),
        (r"^  windows: .*", "  windows: 0",
         "params.yaml: monitoring.windows: found 0, expected greater than or equal to 1"),
        (r"^  rows: .*", "  rows: few",
         "params.yaml: monitoring.rows: found 'few', expected a whole number"),
        (r"^  ignore: .*", "  ignore: month",
         "params.yaml: monitoring.ignore: found 'month', expected a list"),
        (r"^  share: .*", "  share: 1.5",
         "params.yaml: monitoring.share: found 1.5, expected less than or equal to 1"),
        (r"^  drift: .*", "  drift: 0",
         "params.yaml: monitoring.drift: found 0, expected greater than 0"),
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


def test_a_key_far_from_any_is_answered_with_the_known_ones(tmp_path):
    said = complaint(tmp_path, TEXT + "\nzzz: 1\n")
    assert said.startswith("params.yaml: zzz: unknown key; known: data, engine, ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "params.yaml: found nothing, expected keys and values"),
        ("- a\n", "params.yaml: found ['a'], expected keys and values"),
        ("seed: 1\nseed: 2\n", "params.yaml: line 2: 'seed' is there twice"),
    ],
)
def test_a_file_that_is_no_set_of_keys_is_refused(tmp_path, text, line):
    assert complaint(tmp_path, text) == line


def test_broken_yaml_is_said_with_its_line(tmp_path):
    said = complaint(tmp_path, "seed: [1\nproject: x\n")
    assert said.startswith("params.yaml: line 2: ")


def test_no_file_at_all_is_said(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml: not found"):
        params.load_all(tmp_path)


WORDS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(yaml.safe_load(TEXT))), JSON)
@settings(max_examples=60, deadline=None)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("any")
    content = yaml.safe_load(TEXT) | {key: value}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    said = complaint_or_none(folder)
    assert said is None or (len(said.splitlines()) == 1 and f"params.yaml: {key}" in said)


def test_parameters_cannot_be_changed_once_read():
    with pytest.raises(ValueError, match="frozen"):
        params.load_all(REPOSITORY).seed = 1
