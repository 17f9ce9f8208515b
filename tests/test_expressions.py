"""The expressions in workflow files mean here what they mean to GitHub.

The values are those that GitHub's own parser, `@actions/expressions` 0.3.61, gives.
"""

import math

import pytest

from tests.expressions import ExpressionError, evaluate, fill, truthy

KNOWN = {
    "github": {
        "event_name": "push",
        "Ref": "refs/heads/main",
        "event": {"pull_request": None, "list": [1, "a", True, None]},
    },
    "steps": {"gate": {"outcome": "failure", "outputs": {"x": "1"}}},
    "vars": {},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("github.event_name == 'PUSH'", True),
        ("GITHUB.REF", "refs/heads/main"),
        ("github['ref']", "refs/heads/main"),
        ("github.nope.deep", None),
        ("github.event.list[1]", "a"),
        ("github.event.list[9]", None),
        ("github.event.pull_request.head.repo.full_name == 'acme/flights'", False),
        ("vars.X != ''", False),
        ("null == ''", True),
        ("null == 0", True),
        ("'1' == true", True),
        ("'' == false", True),
        ("'a' == 0", False),
        ("'0x10' == 16", True),
        ("vars == vars", True),
        ("vars == ''", False),
        ("'true' && 'yes' || 'no'", "yes"),
        ("vars.X && 'yes' || ''", ""),
        ("0 || null", None),
        ("!steps.gate.outputs.x == false", True),
        ("!2 < 3", True),
        ("3 < 2 < 1", True),
        ("'b' > 'A'", True),
        ("true || false && false", True),
        ("(true || false) && false", False),
        ("'it''s'", "it's"),
        ("contains('[\"staging\"]', '\"Staging\"')", True),
        ("contains(fromJSON('[1, 2]'), '2')", True),
        ("startsWith(github.ref, 'refs/heads/')", True),
        ("endsWith(vars, '')", False),
        ("format('{0}: {{{1}}}', 'a', 1)", "a: {1}"),
        ("join(github.event.list, '-')", "1-a-true-"),
        ("fromJSON(toJSON(steps)).gate.outcome", "failure"),
        ("steps.gate.outcome != 'skipped'", True),
    ],
)
def test_an_expression_has_the_value_that_github_gives_it(text, value):
    assert evaluate(text, KNOWN, {}) == value


def test_what_is_no_number_equals_nothing_and_does_not_hold():
    assert math.isnan(evaluate("NaN", KNOWN, {}))
    assert evaluate("NaN == NaN", KNOWN, {}) is False
    assert not truthy(math.nan)


def test_what_decides_nothing_is_not_evaluated():
    assert evaluate("false && fromJSON('not JSON')", KNOWN, {}) is False
    assert evaluate("'x' || fromJSON('not JSON')", KNOWN, {}) == "x"


def test_a_text_is_filled_in_and_a_whole_expression_keeps_its_type():
    assert fill("on ${{ github.event_name }} of ${{ '}' }}", KNOWN, {}) == "on push of }"
    assert fill("${{ github.event.list }}", KNOWN, {}) == [1, "a", True, None]


@pytest.mark.parametrize(
    "text",
    ["a", "github.", "github.ref)", "('a'", "'a", "== 1", "foo()", "1 2", "github.*", "!", "'a'.b"],
)
def test_what_is_no_expression_or_names_the_unknown_is_an_error(text):
    with pytest.raises(ExpressionError):
        evaluate(text, KNOWN, {})
