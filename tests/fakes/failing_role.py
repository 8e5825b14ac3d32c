"""A role that fails before it says a word."""
from __future__ import annotations

from typing import Any

from mailproxy.ipc.contract import Child


def prepare(conf: Any, service: Any) -> None:
    return None


def main(child: Child, prepared: Any) -> int:
    return 3
