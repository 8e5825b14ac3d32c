"""redis: `host=… port=… path=… prefix=… db=… password=… timeout_msecs=…`, joined with colons.

Keys have no `shared/` there.  Needs redis-py.  A connection that the server has closed is made anew once.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from mailproxy.auth.dicts.store import MAX_KEYS, SHARED, StoreFailed, decoded, raw
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.errors import DriverMissing
from mailproxy.secret import Secret

_DEFAULTS = {"host": "127.0.0.1", "port": "6379", "path": "", "prefix": "", "db": "0", "password": "",
             "timeout_msecs": "30000", "expire_secs": "0"}
#: Seconds: a connection is there quickly or not at all; an answer must be there before the worker is given up.
_CONNECT_TIMEOUT = 5.0
_MOST_TIMEOUT = 50.0
_T = TypeVar("_T")


class Redis:
    __slots__ = ("_client", "_connect", "_errors", "_prefix")

    def __init__(self, settings: str) -> None:
        given = dict(_DEFAULTS)
        for word in settings.split(":") if settings else ():
            key, equals, value = word.partition("=")
            if not equals or key not in given:
                raise ArgsInvalid(f"dict redis: Unknown parameter: {key}")
            given[key] = value
        try:
            port, number = int(given["port"]), int(given["db"])
            timeout = min(int(given["timeout_msecs"]) / 1000, _MOST_TIMEOUT)
        except ValueError:
            raise ArgsInvalid("dict redis: port, db and timeout_msecs must be numbers") from None
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise DriverMissing("dict: redis needs the Python package redis, install the Debian package python3-redis "
                                "or the pip extra mailproxy[redis]") from None
        password = Secret(given["password"])
        place: dict[str, Any] = {"unix_socket_path": given["path"]} if given["path"] \
            else {"host": given["host"], "port": port}
        self._prefix = given["prefix"]
        # the last ones are the library's own, when an answer has another shape than it takes for granted
        self._errors = (redis.RedisError, OSError, AttributeError, TypeError, ValueError, LookupError)

        def connect() -> Any:
            return redis.Redis(**place, db=number, password=password.reveal() or None,
                               socket_timeout=timeout or _MOST_TIMEOUT, socket_connect_timeout=_CONNECT_TIMEOUT,
                               retry=Retry(NoBackoff(), 0), single_connection_client=True)
        self._connect = connect
        self._client: Any = None

    def get(self, key: str) -> str | None:
        name = raw(self._prefix + key.removeprefix(SHARED))
        value: bytes | None = self._asked(lambda client: client.get(name))
        return None if value is None else decoded(value)

    def keys(self, prefix: str) -> Iterator[str]:
        begin = self._prefix + prefix.removeprefix(SHARED)
        pattern = "".join("\\" + char if char in "*?[]\\" else char for char in begin) + "*"
        cursor, seen = 0, set[str]()
        while True:
            cursor, found = self._asked(partial(_scan, cursor, raw(pattern)))
            for name in found:
                key = SHARED + decoded(name)[len(self._prefix):]
                if key not in seen:                         # a table that grows meanwhile shows a key twice
                    seen.add(key)
                    yield key
            if not cursor or len(seen) > MAX_KEYS:
                return

    def _asked(self, question: Callable[[Any], _T]) -> _T:
        fresh = self._client is None
        try:
            if self._client is None:
                self._client = self._connect()
            return question(self._client)
        except self._errors as error:
            self.close()
            if fresh or "timeout" in type(error).__name__.lower():
                raise StoreFailed(f"redis: {error}") from None
        return self._asked(question)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _scan(cursor: int, pattern: bytes, client: Any) -> tuple[int, list[bytes]]:
    found: tuple[int, list[bytes]] = client.scan(cursor, pattern, 1000)
    return found
