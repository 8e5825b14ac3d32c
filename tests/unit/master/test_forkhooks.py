"""The hooks that the standard library would run in every child."""
from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from mailproxy.master import forkhooks
asked = []
os.register_at_fork = lambda **hooks: asked.append(hooks)
with forkhooks.withheld():
    import {module}
print([sorted(hooks) for hooks in asked], os.register_at_fork.__name__)
"""


@pytest.mark.parametrize(("module", "hooks"), [
    ("threading", "[]"), ("logging", "[]"), ("random", "[]")])
def test_only_hooks_that_repair_something_are_registered(module: str, hooks: str) -> None:
    done = subprocess.run([sys.executable, "-S", "-c", PROGRAM.format(module=module)], capture_output=True, text=True,
                          check=False)
    assert done.stdout == f"{hooks} <lambda>\n", done.stderr


def test_the_master_loads_nothing_that_makes_forks_dear() -> None:
    program = ("import os; seen = []; os.register_at_fork = lambda **hooks: seen.append(hooks); "
               "import mailproxy.master.start; print(seen)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
