"""What a check found, in four sections, and how it is shown.

In: problems and warnings in the words of whoever found them.  Out: text for people, JSON for machines.  The place of a
finding is taken out of its text, so that all sections look alike and editors can jump there.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from mailproxy.errors import Problem
from mailproxy.log.pipe import sanitise

_OBSOLETE = re.compile(r"Obsolete setting in (.*?):(\d+): (.*)", re.DOTALL)
_PLACED = re.compile(r"(?:Configuration file )?(/?\S+) line (\d+): (.*)", re.DOTALL)


class Finding(NamedTuple):
    """`path` "": nowhere in particular; `line` 0: the file as a whole."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return sanitise(f"{place}: {self.text}" if place else self.text)


class Findings:
    """Dicts keep the order and each finding once."""

    __slots__ = ("errors", "ignored", "obsolete", "warnings")

    def __init__(self) -> None:
        self.errors: dict[Finding, None] = {}
        self.warnings: dict[Finding, None] = {}
        self.obsolete: dict[Finding, None] = {}
        self.ignored: dict[Finding, None] = {}

    def error(self, path: str, line: int, text: str) -> None:
        self.errors[Finding(path, line, text)] = None

    def warning(self, path: str, line: int, text: str) -> None:
        self.warnings[Finding(path, line, text)] = None

    def ignore(self, path: str, line: int, text: str) -> None:
        self.ignored[Finding(path, line, text)] = None

    def problems(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.error(problem.path, problem.line, problem.text)

    def told(self, texts: Iterable[str]) -> None:
        """Warnings as a start would log them."""
        for text in texts:
            found = _OBSOLETE.fullmatch(text)
            if found:
                self.obsolete[Finding(found[1], int(found[2]), found[3])] = None
                continue
            found = _PLACED.fullmatch(text)
            if found:
                self.warning(found[1], int(found[2]), found[3])
            else:
                self.warning("", 0, text)

    def sections(self) -> tuple[tuple[str, list[Finding]], ...]:
        """Each in the order of the files."""
        return (("Errors", sorted(self.errors)), ("Warnings", sorted(self.warnings)),
                ("Obsolete", sorted(self.obsolete)), ("Ignored", sorted(self.ignored)))

    def summary(self, path: str) -> str:
        """One line."""
        return (f"{path}: {_count(len(self.errors), 'error')}, {_count(len(self.warnings), 'warning')}, "
                f"{len(self.obsolete)} obsolete, {len(self.ignored)} ignored")

    def text(self, path: str) -> str:
        lines: list[str] = []
        for name, found in self.sections():
            if found:
                lines += [f"{name}:", *(f"  {finding}" for finding in found), ""]
        return "\n".join([*lines, self.summary(path), ""])

    def json(self, path: str) -> str:
        sections = {name.lower(): [{"file": finding.path, "line": finding.line, "text": finding.text}
                                   for finding in found] for name, found in self.sections()}
        return json.dumps({"file": path, "summary": self.summary(path), **sections}, indent=1) + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
