"""Who has failed to log in lately: the table that anvil keeps for all and the auth process mirrors for itself.

In: an ident (an address), a checksum of what was tried, the new value, the time.  Out: the value and when it was last
raised.  It must not know what a value costs.  Limits: MAX_IDENTS, MAX_CHECKSUMS of each.
"""
from __future__ import annotations

from collections.abc import Iterator

#: Idents at once; beyond, the one that was quiet for longest is forgotten.
MAX_IDENTS = 100_000
#: Failed attempts that are remembered of each: repeating one of them raises nothing.
MAX_CHECKSUMS = 10
#: The largest value that anvil takes.
MAX_VALUE = 65535
#: Seconds after its last change that an ident is forgotten, unless somebody says otherwise.
EXPIRE = 3600


class Record:
    __slots__ = ("checksums", "raised", "updated", "value")

    def __init__(self) -> None:
        self.value = 0
        self.raised = 0                     # when the value was set
        self.updated = 0                    # when somebody failed, in whatever way
        self.checksums: list[int] = []      # the newest last


class Penalties:
    """`expire`: seconds; records are in the order of their last update, so that the oldest are found first."""

    __slots__ = ("_records", "expire")

    def __init__(self, expire: int = EXPIRE) -> None:
        self._records: dict[str, Record] = {}
        self.expire = expire

    def __bool__(self) -> bool:
        return bool(self._records)

    def get(self, ident: str, now: int) -> tuple[int, int]:
        """(value, when it was set); (0, 0) if nothing is known."""
        self._forget(now)
        record = self._records.get(ident)
        return (0, 0) if record is None else (record.value, record.raised)

    def set(self, ident: str, checksum: int, value: int, now: int) -> None:
        """With a checksum that was seen lately only the time of the update changes; 0 is never compared."""
        self._forget(now)
        record = self._records.pop(ident, None) or Record()
        self._records[ident] = record
        record.updated = now
        if checksum:
            if checksum in record.checksums:
                record.checksums.remove(checksum)
                record.checksums.append(checksum)
                return
            record.checksums = [*record.checksums[1 - MAX_CHECKSUMS:], checksum]
        record.value = value
        record.raised = now
        if len(self._records) > MAX_IDENTS:
            del self._records[next(iter(self._records))]

    def put(self, ident: str, value: int, raised: int, updated: int) -> None:
        """Take over what another table knows, unless we know better."""
        if ident not in self._records and len(self._records) < MAX_IDENTS:
            record = self._records[ident] = Record()
            record.value, record.raised, record.updated = value, raised, updated

    def rows(self, now: int) -> Iterator[tuple[str, int, int, int]]:
        """(ident, value, when it was set, last update) of each."""
        self._forget(now)
        for ident, record in self._records.items():
            yield ident, record.value, record.raised, record.updated

    def _forget(self, now: int) -> None:
        records = self._records
        while records:
            ident = next(iter(records))
            if -self.expire < now - records[ident].updated < self.expire:
                return
            del records[ident]              # expired; or the clock was set back
