"""The auth cache: answers of slow databases, least recently used ones leave first.

Keys are tuples of everything that the answer depends on.  Sizes are counted as the setting's documentation leads to
expect (key, value and a small overhead), not as Python's memory: about 6 times as much is used.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from mailproxy.auth.fields import FieldSet

Key = tuple[Any, ...]
#: Bytes of bookkeeping charged for an entry.
OVERHEAD = 34
MIN_SIZE = 1024


class Entry:
    """`fields` None: the user is known not to exist.  `password` None: none in the database (nopassword).
    `success`: the last comparison with it was right.  `user`: whom it is about, for flushing."""

    __slots__ = ("fields", "made", "password", "size", "success", "user")

    def __init__(self, fields: FieldSet | None, password: str | None, success: bool, made: float, user: str) -> None:
        self.fields = fields
        self.password = password
        self.success = success
        self.made = made
        self.user = user
        self.size = 0


class Cache:
    """`clock` gives seconds; `limit` is in bytes."""

    __slots__ = ("_clock", "_entries", "hits", "limit", "lookups", "negative", "negative_bytes", "negative_ttl",
                 "positive", "positive_bytes", "ttl", "used")

    def __init__(self, limit: int, ttl: float, negative_ttl: float, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self._clock = clock
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self.used = 0
        self._reset()

    def _reset(self) -> None:
        self.hits = self.lookups = 0
        self.positive = self.positive_bytes = self.negative = self.negative_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def look(self, key: Key) -> tuple[Entry | None, bool]:
        """The entry, and whether it is fresh."""
        self.lookups += 1
        entry = self._entries.get(key)
        if entry is None:
            return None, False
        if self._clock() - entry.made > (self.negative_ttl if entry.fields is None else self.ttl):
            return entry, False
        self.hits += 1
        self._entries.move_to_end(key)
        return entry, True

    def older_than_negative(self, entry: Entry) -> bool:
        return self._clock() - entry.made > self.negative_ttl

    def put(self, key: Key, fields: FieldSet | None, password: str | None, success: bool, user: str) -> None:
        if (self.negative_ttl if fields is None else self.ttl) == 0:
            return
        entry = Entry(fields, password, success, self._clock(), user)
        entry.size = size = OVERHEAD + sum(len(str(part)) + 1 for part in key) + 2 + len(password or "") \
            + (sum(len(name) + len(value) + 2 for name, value in fields.pairs) if fields is not None else 0)
        if fields is None:
            self.negative += 1
            self.negative_bytes += size
        else:
            self.positive += 1
            self.positive_bytes += size
        self.drop(key)
        while self.used + size > self.limit and self._entries:
            _, oldest = self._entries.popitem(last=False)
            self.used -= oldest.size
        if size <= self.limit:
            self._entries[key] = entry
            self.used += size

    def drop(self, key: Key) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self.used -= old.size

    def flush(self) -> int:
        """Forget everything; how many entries that were."""
        count = len(self._entries)
        self._entries.clear()
        self.used = 0
        return count

    def flush_user(self, user: str) -> int:
        keys = [key for key, entry in self._entries.items() if entry.user == user]
        for key in keys:
            self.drop(key)
        return len(keys)

    def statistics(self) -> list[str]:
        """The lines for the log; counting starts again."""
        percent = self.hits * 100 // self.lookups if self.lookups else 100
        lines = [
            f"Authentication cache hits {self.hits}/{self.lookups} ({percent}%)",
            f"Authentication cache inserts: positive: {self.positive} entries {self.positive_bytes} bytes, "
            f"negative: {self.negative} entries {self.negative_bytes} bytes",
            f"Authentication cache current size: {self.used} bytes used of {self.limit} bytes "
            f"({self.used * 100 // self.limit if self.limit else 0}%)"]
        self._reset()
        return lines
