"""What the documents say is there: manual pages, the README's links and commands, the Makefile's own help."""
from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mailproxy import cli
from mailproxy.admin.cli import COMMANDS
from tests import servers

MAN = servers.PROJECT / "docs" / "man"


def run(*argv: str, cwd: Path = servers.PROJECT) -> subprocess.CompletedProcess[str]:
    # a make of its own, not a part of the one that runs the tests
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, cwd=cwd, env=env)


def plain(page: str) -> str:
    done = run("groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=500n", str(MAN / page))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_mpadm_page_describes_every_command() -> None:
    shown = re.findall(r"^ {7}([a-z]+(?: [a-z]+)*)", plain("mpadm.1").partition("COMMANDS")[2].partition("EXIT")[0],
                       re.MULTILINE)
    assert [name for name in COMMANDS if not any(f"{line} ".startswith(f"{name} ") for line in shown)] == []


def test_mailproxy_page_describes_every_option() -> None:
    page = plain("mailproxy.8")
    options = re.findall(r"^  (-\w|check|reload)", cli.USAGE, re.MULTILINE)
    assert len(options) >= 5
    assert [option for option in options if not re.search(rf"^ {{7}}{re.escape(option)}", page, re.MULTILINE)] == []
    assert all(path in page for path in cli.PATHS)


def test_readme_names_what_exists() -> None:
    text = (servers.PROJECT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in link or (servers.PROJECT / link).exists(), link
    targets = set(re.findall(r"make ([a-z]+)[ `\n]", text)) - {"calls", "to"}
    known = set(re.findall(r"^([a-z]+):", (servers.PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "lint", "bench"} <= targets <= known


def test_every_difference_has_a_reason() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in (servers.PROJECT / "docs" / "differences.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 10
    for row in rows:
        assert len(row) == 4, row
        assert all(row), row


def test_make_shows_every_target_by_default() -> None:
    done = run("make", "--no-print-directory")
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"^\.PHONY: ([a-z]+)", (servers.PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^  make ([a-z]+) ", done.stdout, re.MULTILINE)) == known


@pytest.mark.parametrize("script", ["packaging/venv", "packaging/debian-packages", ".ci/run"])
def test_script_is_valid_shell(script: str) -> None:
    path = servers.PROJECT / script
    assert os.access(path, os.X_OK)
    assert run("sh", "-n", str(path)).returncode == 0


def test_missing_packages_are_one_line_without_root(tmp_path: Path) -> None:
    """As somebody who is not root and has no sudo: what to install, nothing else."""
    for name, text in {"id": "echo 1000", "sudo": "exit 1", "dpkg-query": "exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = run("env", f"PATH={tmp_path}:{os.environ['PATH']}", "packaging/debian-packages", "isync", "fetchmail")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "missing packages, please run: sudo apt-get install isync fetchmail\n"
