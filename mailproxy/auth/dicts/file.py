"""file: one text file, a line with the key and a line with its value by turns.

Read again when it has changed, looked at once a second.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from mailproxy.auth.dicts.store import MAX_VALUE, StoreFailed, decoded
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.ipc.authwire import unescape

#: Bytes of a file.
MAX_SIZE = 256 * 1024 * 1024


class File:
    __slots__ = ("_clock", "_looked", "_path", "_stamp", "_values")

    def __init__(self, settings: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = settings.partition(":")[0]
        if not self._path.startswith("/"):
            raise ArgsInvalid("dict file: the path must be absolute")
        self._clock = clock
        self._values: dict[str, str] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._looked = float("-inf")

    def get(self, key: str) -> str | None:
        self._refresh()
        value = self._values.get(key)
        if value is not None and len(value) > MAX_VALUE:
            raise StoreFailed(f"{self._path}: a value has more than {MAX_VALUE} bytes")
        return value

    def keys(self, prefix: str) -> Iterator[str]:
        self._refresh()
        return iter([key for key in self._values if key.startswith(prefix)])

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked < 1.0:
            return
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._values = _read(self._path)
                self._stamp = stamp
        except FileNotFoundError:
            self._values, self._stamp = {}, None
        except OSError as error:
            raise StoreFailed(f"open({self._path}) failed: {error.strerror}") from None
        self._looked = now

    def close(self) -> None:
        self._values, self._stamp, self._looked = {}, None, float("-inf")


def _stamp(path: str) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: str) -> dict[str, str]:
    with open(path, "rb") as file:
        data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise StoreFailed(f"{path} is larger than {MAX_SIZE} bytes")
    lines = [decoded(line) for line in data.split(b"\n")]
    return {unescape(key): unescape(value) for key, value in zip(lines[::2], lines[1::2], strict=False)}
