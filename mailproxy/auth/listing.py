"""The names of all users, one userdb after the other; the reader sets the pace.

In: the userdbs of a protocol.  Out: a call for each name, and one at the end with what went wrong.  Names come through
auth-workers, whatever the driver: files are long, too.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from mailproxy.auth.usersections import UserSection
from mailproxy.auth.workers import Listing as Part
from mailproxy.auth.workers import Pool


class Listing:
    __slots__ = ("_at", "_done", "_mask", "_name", "_part", "_paused", "_pool", "_problem", "_sections", "_stopped")

    def __init__(self, pool: Pool, sections: Sequence[UserSection], mask: str, name: Callable[[str], None],
                 done: Callable[[str], None]) -> None:
        """`mask`: what the reader will keep; only a hint for drivers."""
        self._pool = pool
        self._sections = [section for section in sections if section.driver.lists]
        self._problem = "" if self._sections else "Trying to iterate users, but userdbs don't support it"
        self._mask = mask
        self._name = name
        self._done = done
        self._at = 0
        self._part: Part | None = None
        self._paused = self._stopped = False

    def go(self) -> None:
        if self._at == len(self._sections):
            self._done(self._problem)
            return
        section = self._sections[self._at]
        self._part = self._pool.list_users(section, {"user": self._mask}, self._named, self._ended)
        if self._paused:
            self._part.pause()

    def _named(self, user: str) -> None:
        if not self._stopped:
            self._name(user)

    def _ended(self, problem: str | None) -> None:
        if self._stopped:
            return
        self._problem = self._problem or problem or ""
        self._at += 1
        self.go()

    def pause(self) -> None:
        self._paused = True
        if self._part is not None:
            self._part.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._part is not None:
                self._part.resume()

    def abandon(self) -> None:
        """The reader is gone."""
        self._stopped = True
        if self._part is not None:
            self._part.stop()
