"""fs: one file per key, `posix:prefix=/directory/`.  Keys have no `shared/` there.

A key cannot leave the directory: components that are nothing but dots get two more of them (as with Dovecot).
"""
from __future__ import annotations

import os
from collections.abc import Iterator

from mailproxy.auth.dicts.store import MAX_KEYS, MAX_VALUE, SHARED, StoreFailed, decoded
from mailproxy.auth.passdb.driver import ArgsInvalid


class Files:
    __slots__ = ("_prefix",)

    def __init__(self, settings: str) -> None:
        driver, *words = settings.split(":")
        if driver != "posix":
            raise ArgsInvalid(f"dict fs: Unknown fs driver: {driver} (known: posix)")
        self._prefix = ""
        for word in words:
            key, _, value = word.partition("=")
            if key == "prefix":
                self._prefix = value
            elif key not in ("mode", "dirs", "no-fsync", "accurate-mtime"):         # they are for writing
                raise ArgsInvalid(f"dict fs: Unknown parameter: {key}")
        if not self._prefix.startswith("/"):
            raise ArgsInvalid("dict fs: prefix= must be an absolute path")

    def get(self, key: str) -> str | None:
        if "\0" in key:
            return None
        parts = key.removeprefix(SHARED).split("/")
        path = self._prefix + "/".join(".." + part if part and not part.strip(".") else part for part in parts)
        try:
            with open(path, "rb") as file:
                return decoded(file.read(MAX_VALUE + 1))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise StoreFailed(f"open({path}) failed: {error.strerror}") from None

    def keys(self, prefix: str) -> Iterator[str]:
        start = self._prefix + prefix.removeprefix(SHARED)
        found = 0
        for directory, _, names in os.walk(os.path.dirname(start), followlinks=False):
            for name in names:
                path = os.path.join(directory, name)
                if path.startswith(start):
                    found += 1
                    if found > MAX_KEYS:
                        return
                    yield SHARED + path[len(self._prefix):]

    def close(self) -> None:
        """Nothing stays open."""
