"""When a backend has gone, its clients are sent away one after the other, so that they do not all come back at once.

In: a disconnect from a backend, how many sessions it has.  Out: how long that client stays.  The first ones, as many as
would go in a second, go at once; the others follow evenly over login_proxy_max_disconnect_delay, in steps of STEP.
Limit: BACKENDS_MAX backends are remembered; those beyond are not spread.
"""
from __future__ import annotations

import random
from collections.abc import Callable

STEP = 0.1
BACKENDS_MAX = 1000


class _Wave:
    """The disconnects from one backend, from the first one on until the delay is over."""

    __slots__ = ("gone", "start", "total")

    def __init__(self, start: float, total: int) -> None:
        self.start = start
        self.total = total
        self.gone = 0


class Spread:
    __slots__ = ("_waves",)

    def __init__(self) -> None:
        self._waves: dict[str, _Wave] = {}

    def delay(self, backend: str, now: float, longest: float, sessions: Callable[[], int]) -> float:
        """Seconds, 0: at once.  `sessions`: how many it has, this one included; asked once a wave."""
        wave = self._waves.get(backend)
        if wave is None or now - wave.start > longest:
            if wave is None and len(self._waves) >= BACKENDS_MAX:
                self._waves = {name: one for name, one in self._waves.items() if now - one.start <= longest}
                if len(self._waves) >= BACKENDS_MAX:
                    return 0.0
            # steps of all processes must not fall together
            wave = self._waves[backend] = _Wave(now + random.random() * STEP, sessions())
        wave.gone += 1
        total = max(wave.total, wave.gone)
        if wave.gone <= -(-total // longest):
            return 0.0
        steps = int(longest * wave.gone / total / STEP + 1e-6)
        return max(wave.start + steps * STEP - now, 0.0)
