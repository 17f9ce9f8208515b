"""NaN and Infinity outside strings, as Python writes them, are read; other bad JSON is not."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.serving.literals import decoded

ANY = msgspec.json.Decoder(msgspec.Raw)
TEXT = st.text(alphabet='NaInfity"\\\u2028é\0\1 :,[]{}/ux0', max_size=12)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


def without_nan(value):
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    return value


@given(VALUE, st.booleans())
def test_whatever_python_writes_is_read_with_null_for_nan(value, ascii_only):
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json.loads(bytes(decoded(ANY, body))) == without_nan(value)


@given(st.binary(max_size=40) | st.text(alphabet='NaN"\\[]{},:\0\1', max_size=20).map(str.encode))
def test_what_is_no_json_stays_none(body):
    try:
        found = bytes(decoded(ANY, body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert b"NaN" not in found.replace(b'"NaN"', b"") or b'"' in found
    json.loads(body)


@pytest.mark.parametrize("body", [b"[Infinity]", b"[-Infinity]"])
def test_an_infinite_number_is_out_of_range_where_a_number_is_due(body):
    with pytest.raises(msgspec.ValidationError, match=r"Number out of range - at `\$\[0\]`"):
        decoded(msgspec.json.Decoder(list[float | None]), body)
    assert decoded(msgspec.json.Decoder(list[float | None]), b"[NaN, 1]") == [None, 1.0]


@pytest.mark.parametrize(
    "body", [b"NaNN", b"[NaN", b"-NaN", b'"NaN', b'["\0", NaN]', b"nan", b"[N]"]
)
def test_what_only_looks_like_it_is_refused(body):
    with pytest.raises(msgspec.DecodeError):
        decoded(ANY, body)
