"""Bodies that are nearly right: valid ones of every protocol, damaged in many ways, by a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from tests.mlops.serving.forms import LENGTH, Sent

# What a value may be replaced with.
VALUES = [
    b"null", b"true", b"[]", b"{}", b'""', b"-1", b"0", b"-0", b"1e999", b"-1e999", b"1e-999",
    b"NaN", b"-Infinity", b"0x1", b"01", b"1.", b".1", b"1e", b"9" * 400, b"9" * 5000, b"1e38",
    b"3.5e38", b'"\\ud800"', b'"\\u0000"', b'"\\"', b"'a'", b"[[[[]]]]", b"18446744073709551616",
    b'"\xff"', b'"' + b"x" * 3000 + b'"', b"[" * 3000, b'{"a":' * 3000, b"// comment", b"\0",
    b'"NaN"', b"undefined", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"-9223372036854775809",
]  # fmt: skip
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|null|true|false|[\[\]{}:,\n]')
KINDS = [
    "application/json", "text/csv", "application/octet-stream", "text/plain", "", "\xff",
    "application/json; charset=utf-16", "APPLICATION/JSON", "application/json,",
]  # fmt: skip
LENGTHS = ["0", "1", "7", "99999999", "-1", "", "x", "1e3", "9" * 400, " 12", "0x10"]


def flipped(body: bytes, dice: random.Random) -> bytes:
    """Some bytes are others."""
    content = bytearray(body)
    for _ in range(dice.randint(1, 8)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    return bytes(content)


def truncated(body: bytes, dice: random.Random) -> bytes:
    return body[: dice.randrange(len(body))]


def cut(body: bytes, dice: random.Random) -> bytes:
    """A piece is gone."""
    start, end = sorted(dice.choices(range(len(body)), k=2))
    return body[:start] + body[end:]


def repeated(body: bytes, dice: random.Random) -> bytes:
    """A piece is there many times."""
    start, end = sorted(dice.choices(range(len(body)), k=2))
    return body[:end] + body[start:end] * dice.randint(1, 20) + body[end:]


def inserted(body: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(body))
    return body[:place] + dice.choice(VALUES) + body[place:]


def replaced(body: bytes, dice: random.Random) -> bytes:
    """Values, names or brackets are others."""
    for _ in range(dice.randint(1, 4)):
        tokens = list(TOKEN.finditer(body))
        if not tokens:
            return body
        token = dice.choice(tokens)
        instead = dice.choice([*VALUES, dice.choice(tokens)[0]])
        body = body[: token.start()] + instead + body[token.end() :]
    return body


def swapped(body: bytes, dice: random.Random) -> bytes:
    """Two pieces have changed places."""
    a, b, c, d = sorted(dice.choices(range(len(body)), k=4))
    return body[:a] + body[c:d] + body[b:c] + body[a:b] + body[d:]


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flipped, truncated, cut, repeated, inserted, replaced, replaced, replaced, swapped,
]  # fmt: skip


def damaged(sent: Sent, others: list[Sent], dice: random.Random) -> Sent:
    """A request that was right, its body damaged once or more, and its headers now and then."""
    body = sent.body
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        body = dice.choice(MUTATIONS)(body, dice) or b"\0"
    headers = dict(sent.headers)
    if dice.random() < 0.05:
        body = dice.choice(others).body
    if dice.random() < 0.1:
        headers["Content-Type"] = dice.choice(KINDS)
    if dice.random() < 0.3 and LENGTH in headers:
        headers[LENGTH] = dice.choice(LENGTHS)
    path = dice.choice(others).path if dice.random() < 0.05 else sent.path
    return Sent(path, body, headers)


def requests(valid: list[Sent], count: int, seed: int) -> Iterator[Sent]:
    """So many damaged requests: the same ones for the same seed."""
    dice = random.Random(seed)
    for _ in range(count):
        yield damaged(dice.choice(valid), valid, dice)
