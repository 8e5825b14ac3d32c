"""The fixtures of the connection tests serve here too."""
from __future__ import annotations

from tests.unit.net.conftest import contexts, driver

__all__ = ["contexts", "driver"]
