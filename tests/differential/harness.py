"""Runs a list of cases on both sides.  The real side is a process a case: two at a time."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .compare import difference, ours, real
from .deliberate import reason_for
from .sources import Case


class Result(NamedTuple):
    """`differences`: (case, lines about it, the reason if it is on purpose)."""

    total: int
    differences: list[tuple[str, list[str], str]]

    @property
    def unexplained(self) -> int:
        return sum(not reason for _, _, reason in self.differences)

    @property
    def summary(self) -> str:
        if not self.total:
            return "no configurations found"
        deliberate = len(self.differences) - self.unexplained
        note = f", {deliberate} differ on purpose" if deliberate else ""
        return f"{self.total - len(self.differences)} of {self.total} equal{note}"


def run(cases: Callable[[Path], Iterator[Case]], directory: Path) -> Result:
    found = list(cases(directory))
    differences = []
    with ThreadPoolExecutor(2) as pool:
        for case, theirs in zip(found, pool.map(real, found), strict=True):
            own = ours(case)
            if own.errors and not theirs.errors:
                theirs = real(case, use=True)
            lines = difference(theirs, own)
            if lines:
                differences.append((case.name, lines, reason_for(lines)))
    return Result(len(found), differences)
