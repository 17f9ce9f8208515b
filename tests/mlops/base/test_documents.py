"""YAML that people or strangers write: plain keys and values, or refused in one short line."""

from pathlib import Path

import pytest

from mlops.base import documents
from mlops.base.errors import UserError

BOMB = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(20))


def refusal(text: str) -> str:
    with pytest.raises(UserError) as error:
        documents.parse(text, "x.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2\n", "x.yaml: line 2: 'a' is there twice"),
        (BOMB, "x.yaml: line 1: found the anchor or alias 'a', expected the value itself"),
        ("a: {<<: {b: 1}, b: *c}", "x.yaml: line 1: found the anchor or alias 'c', "
         "expected the value itself"),
        ("a: !!python/object:os.system x", "x.yaml: line 1: found the tag "
         "'tag:yaml.org,2002:python/object:os.system', expected none"),
        ("a: " + "[" * 5000, "x.yaml: line 1: nested deeper than 30 levels"),
        ("a: [" + "1, " * 100_000 + "1]",
         "x.yaml: found 300,006 characters, expected at most 250,000"),
        ("project: {{name}}", "x.yaml: line 1: found braces as a key, expected text; "
         "put it in quotes"),
        ("on: 1", "x.yaml: line 1: found 'on' as a key, expected text; put it in quotes"),
        ("a: 1\n---\nb: 2\n", "x.yaml: line 2: but found another document"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> theirs\n",
         "x.yaml: line 2: a merge conflict; resolve it first"),
        ("until: 2013-12-31",
         'x.yaml: line 1: found the day 2013-12-31, expected it in quotes: "2013-12-31"'),
        ("a: 0b_", "x.yaml: not YAML: invalid literal for int() with base 2: ''"),
        ("a: " + "9" * 5000, f"x.yaml: line 1: found '{'9' * 59}..., expected less"),
        ("- " + "y" * 5000, f"x.yaml: found ['{'y' * 58}..., expected keys and values"),
    ],
)  # fmt: skip
def test_what_hides_or_multiplies_values_is_refused_by_its_line(text, line):
    refused = refusal(text)
    assert refused.startswith(line)
    assert len(refused) < 400
    assert "\n" not in refused


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa: \xc3\xa9\r\nb: [1,\r\n  2]\r\n",
                                     "a: é\nb: [1, 2]\n".encode()])  # fmt: skip
def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path, content):
    (tmp_path / "x.yaml").write_bytes(content)
    assert documents.read(tmp_path / "x.yaml", "keys") == {"a": "é", "b": [1, 2]}


@pytest.mark.parametrize(("encoding", "line"), [("utf-16", 1), ("latin-1", 2)])
def test_another_encoding_is_named_with_its_line_and_the_cure(tmp_path, encoding, line):
    path: Path = tmp_path / "x.yaml"
    path.write_bytes("a: 1\nb: é\n".encode(encoding))
    with pytest.raises(UserError) as error:
        documents.read(path, "keys")
    assert str(error.value) == f"{path}: line {line}: not UTF-8; save the file as UTF-8"


def test_anchors_are_read_where_they_are_allowed():
    text = "x: &x {a: 1}\ny: {<<: *x, b: 2}\n"
    assert documents.parse(text, "x.yaml", anchors=True)["y"] == {"a": 1, "b": 2}
