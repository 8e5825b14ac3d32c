"""The directories that the processes live in.

In: the core settings.  Out: base_dir with login, token-login and empty in it, and state_dir, with the right owners
and modes.
"""
from __future__ import annotations

import os
import stat
from typing import Any

from mailproxy.errors import MailproxyError
from mailproxy.master.identity import user_id


def prepare(core: Any) -> list[str]:
    """Make what is missing, correct what is wrong; returns texts about the corrections."""
    notes: list[str] = []
    root = os.geteuid() == 0
    group = -1
    if root:
        _, group = user_id(core.default_login_user, f"default_login_user doesn't exist: {core.default_login_user}")
    _directory(core.base_dir, 0o755, -1, notes)
    for name in ("login", "token-login"):
        _directory(os.path.join(core.base_dir, name), 0o750, group, notes)
    _directory(os.path.join(core.base_dir, "token-login"), 0o750, group, notes)
    _directory(os.path.join(core.base_dir, "empty"), 0o755, -1, notes)
    if root or os.access(os.path.dirname(core.state_dir.rstrip("/")) or "/", os.W_OK):
        _directory(core.state_dir, 0o755, -1, notes)
    return notes


def _directory(path: str, mode: int, group: int, notes: list[str]) -> None:
    try:
        try:
            os.makedirs(path, 0o755)
            made = True
        except FileExistsError:
            made = False
        there = os.stat(path)
        if not stat.S_ISDIR(there.st_mode):
            raise MailproxyError(f"mkdir({path}) failed: File exists")
        if group not in (-1, there.st_gid):
            os.chown(path, -1, group)
        old = stat.S_IMODE(there.st_mode)
        if old != mode:
            os.chmod(path, mode)
            if not made:
                notes.append(f"Corrected permissions of directory {path}: {old:04o} -> {mode:04o}")
    except OSError as failure:
        raise MailproxyError(f"mkdir({path}) failed: {failure.strerror}") from None


def link_config(base_dir: str, path: str) -> None:
    """base_dir/mailproxy.conf shows which configuration the master was started with."""
    link = os.path.join(base_dir, "mailproxy.conf")
    try:
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(os.path.abspath(path), link)
    except OSError as failure:
        raise MailproxyError(f"symlink({link}) failed: {failure.strerror}") from None
