"""The exceptions that cross package borders.

An expected outcome (a refused login, a backend that is down) is a value, never an exception.
What is raised is a peer that breaks its protocol, a configuration that cannot be used, or a bug of ours.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from types import TracebackType


class MailproxyError(Exception):
    """Base of everything that mailproxy raises on purpose."""


class ProtocolError(MailproxyError):
    """A peer broke the rules of its protocol; the text is fit for a log, never for a client."""


class DriverMissing(MailproxyError):
    """A configured driver or scheme needs a library that is not installed; the text names the package."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where and what.  `line` 0: the file as a whole; `path` "": no file."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        if not self.path:
            return self.text
        where = f"{self.path} line {self.line}" if self.line else self.path
        return f"Error in configuration file {where}: {self.text}"


class ConfigInvalid(MailproxyError):
    """The configuration cannot be used.  Carries every problem that was found, not only the first."""

    def __init__(self, problems: tuple[Problem, ...] | list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


#: Innermost frames named in a panic line.
_FRAMES = 6


def describe(failure: BaseException) -> str:
    """A bug in one line: where, and of what kind.  No message and no values: they may be secrets."""
    where = []
    trace: TracebackType | None = failure.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        where.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}()")
        trace = trace.tb_next
    detail = f" [{failure.strerror}]" if isinstance(failure, OSError) and failure.strerror else ""
    return f"unhandled {type(failure).__name__}{detail} at {' < '.join(reversed(where[-_FRAMES:]))}"


#: Exit codes of the daemon family (Dovecot's, so that init scripts and monitoring keep working).
EXIT_OK = 0
EXIT_TEMPFAIL = 75
EXIT_LOG_OPEN = 80
EXIT_LOG_WRITE = 81
EXIT_LOG_INTERNAL = 82
EXIT_OUT_OF_MEMORY = 83
EXIT_EXEC = 84
EXIT_FATAL = 89
