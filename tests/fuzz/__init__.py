"""Fuzzers, and how many inputs a property is tried on.

Here and in the unit tests a property runs on few inputs that are the same in every run.  To look for more:

    MAILPROXY_FUZZ=20000 python -m pytest tests/fuzz -n auto

tries as many random inputs for each property (a day's work of a machine: 10000000); what fails is shown as the
smallest input that does, ready to become an `@example`.
"""
from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_WANTED = int(os.environ.get("MAILPROXY_FUZZ", "0"))


def examples(count: int) -> settings:
    """The decorator of a property that takes `count` inputs in an ordinary run."""
    return settings(max_examples=_WANTED or count, derandomize=not _WANTED, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))
