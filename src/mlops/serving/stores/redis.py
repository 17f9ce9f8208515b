"""Features in Redis or Valkey, for services of many replicas.

The location is the name of an environment variable that holds the URL, and a name for the
features: `FEATURES_URL/production`. Keys that are not published again are forgotten after `KEPT`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec
import redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis

from mlops.base.errors import UserError, one_line
from mlops.serving.stores import About, Columns, Packed, Stored, Unavailable, pack, unpack

# Seconds, to connect and for an answer; of a service's request and of a publication.
PATIENCE, PATIENCE_TO_PUBLISH = 0.5, 10.0
CONNECTIONS = 64
# Seconds for which published features are kept.
KEPT = 14 * 24 * 3600
PART = 1000


def publish(location: str, columns: Columns, rows: Iterable[Packed], made: float) -> None:
    """Write the keys, then what describes them; each key is replaced whole."""
    url, name = _location(location)
    prefix, count = f"{_name(name)}:{_digest(columns)}:", 0
    try:
        with redis.Redis.from_url(url, **_patience(PATIENCE_TO_PUBLISH)) as client:
            remaining = iter(rows)
            while part := list(islice(remaining, PART)):
                with client.pipeline(transaction=False) as pipeline:
                    for key, packed in part:
                        pipeline.set(f"{prefix}{key}", packed, ex=KEPT)
                    pipeline.execute()
                count += len(part)
            client.set(_name(name), pack(About(count, columns, made)), ex=KEPT)
    except (redis.RedisError, OSError, ValueError) as error:
        raise UserError(f"features: {location}: {one_line(error)}") from None


def about(location: str) -> About | None:
    """What was published last; None where nothing was."""
    url, name = _location(location)
    try:
        with redis.Redis.from_url(url, **_patience(PATIENCE_TO_PUBLISH)) as client:
            content: Any = client.get(_name(name))
    except (redis.RedisError, OSError, ValueError) as error:
        raise UserError(f"features: {location}: {one_line(error)}") from None
    return msgspec.msgpack.decode(content, type=About) if content else None


def connect(location: str) -> Reader:
    """A reader, which connects when it is asked."""
    return Reader(location)


class Reader:
    """Reads keys, and what describes them, in one exchange."""

    def __init__(self, location: str) -> None:
        self._location = location
        url, name = _location(location)
        self._name, self._described = _name(name), b""
        self._columns, self._prefix = Columns((), ()), f"{_name(name)}::"
        pool = BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=PATIENCE, **_patience(PATIENCE)
        )
        self._client = AsyncRedis(connection_pool=pool)

    async def get(self, keys: Sequence[str]) -> tuple[Columns, list[Stored | None]]:
        """What was published for each of these keys; raises Unavailable."""
        try:
            described, *values = await self._get(keys)
            if described != self._described:
                # Published with other columns, or for the first time: their keys have other names.
                if not described:
                    raise Unavailable(f"{self._location}: found no features")
                self._columns = msgspec.msgpack.decode(described, type=About).columns
                self._described = described
                self._prefix = f"{self._name}:{_digest(self._columns)}:"
                _, *values = await self._get(keys)
            return self._columns, [unpack(value) if value else None for value in values]
        except (redis.RedisError, OSError, msgspec.MsgspecError, ValueError) as error:
            raise Unavailable(f"{self._location}: {one_line(error)}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _get(self, keys: Sequence[str]) -> list[Any]:
        return await self._client.mget([self._name, *(f"{self._prefix}{key}" for key in keys)])


def _location(location: str) -> tuple[str, str]:
    """The URL and the features' name. Raises UserError where the variable is not set."""
    variable, _, name = location.partition("/")
    url = os.environ.get(variable, "")
    if not url or not name:
        raise UserError(
            f"features: found {location!r}, expected VARIABLE/NAME, and the URL of Redis in that "
            "environment variable"
        )
    return url, name


def _name(name: str) -> str:
    return f"mlops:features:{name}"


def _digest(columns: Columns) -> str:
    return hashlib.sha256(msgspec.json.encode(columns)).hexdigest()[:12]


def _patience(seconds: float) -> dict[str, Any]:
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}
