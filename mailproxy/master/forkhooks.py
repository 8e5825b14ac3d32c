"""Keeps the standard library's fork hooks out of our forks.

Importing `threading` (and `logging`, which imports it) makes every fork run Python code in the child that writes to
about 140 pages which the child would otherwise share: measured, 0.3 ms of a fork's 1.0 ms, and half a megabyte for each
process of a login service.  Those hooks repair locks that another thread held at the moment of the fork.  The master
has one thread and forks between two turns of its loop, so there is nothing to repair.  `random` would be seeded anew in
every child, for another 40 pages; roles that need chance take it from the system (random.SystemRandom, os.urandom).
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_UNNEEDED = frozenset({"threading", "logging", "random"})


@contextmanager
def withheld() -> Iterator[None]:
    """Modules that are imported for the first time in here do not register these hooks."""
    register = os.register_at_fork

    def choose(**hooks: Callable[[], Any]) -> None:
        wanted = {when: hook for when, hook in hooks.items() if getattr(hook, "__module__", "") not in _UNNEEDED}
        if wanted:
            register(**wanted)

    os.register_at_fork = choose        # type: ignore[assignment]
    try:
        yield
    finally:
        os.register_at_fork = register
