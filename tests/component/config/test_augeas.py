"""Augeas, which tools for configuration management read files with, understands every file that we ship."""
from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mailproxy.demo import backends, settings
from tests import servers

LENS = "Dovecot.lns"
PACKAGING = servers.PROJECT / "packaging"
SHIPPED = sorted([*(servers.PROJECT / "conf.d").iterdir(), *PACKAGING.rglob("*.conf"), *PACKAGING.rglob("*.conf.ext")])
_COMMENTED = re.compile(r"^( *)#(?=[a-z_]+ =|[a-z_]+ .*\{$|\}$|  )", re.MULTILINE)


def parsed(path: Path, root: Path) -> list[str]:
    """The names of what Augeas finds in a file; it must find no mistake."""
    inside = f"/{path.relative_to(root)}"
    run = subprocess.run(["augtool", "--noautoload", "-r", str(root), "--transform", f"{LENS} incl {inside}"],
                         input=f"load\nprint /augeas/files{inside}/error\nmatch /files{inside}/*\n", text=True,
                         capture_output=True, timeout=20, check=True)
    assert "/error" not in run.stdout, run.stdout
    return [line for line in run.stdout.splitlines() if line.startswith("/files") and "/#comment" not in line]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "as-it-is.conf")
    parsed(tmp_path / "as-it-is.conf", tmp_path)
    text = _COMMENTED.sub(r"\1", path.read_text())
    (tmp_path / "uncommented.conf").write_text(text)
    found = parsed(tmp_path / "uncommented.conf", tmp_path)
    assert found
    assert len(found) >= len(re.findall(r"^[a-z_]+ =", text, re.MULTILINE))


def test_the_demo(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    ports = {name: 10000 + number for number, name in enumerate(
        ("imap", "imaps", "pop3", "pop3s", "sieve", "submission", "submissions", "lmtp"))}
    behind = {name: {protocol: 20000 + number for number, protocol in enumerate(backends.PROTOCOLS)}
              for name in backends.NAMES}
    demo = settings.Demo(tmp_path, ports, behind, certificate, certificate)
    assert len(parsed(settings.write(demo), tmp_path)) >= 10


def test_a_mistake_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "wrong.conf").write_text("service {{\n")
    with pytest.raises(AssertionError):
        parsed(tmp_path / "wrong.conf", tmp_path)
