"""Connecting to the sockets below base_dir."""
from __future__ import annotations

import socket

from mailproxy.errors import MailproxyError


def connect(path: str, timeout: float) -> socket.socket:
    """MailproxyError says which path and why not."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout)
    try:
        made.connect(path)
    except OSError as failure:
        made.close()
        raise MailproxyError(f"connect({path}) failed: {failure.strerror or failure}") from None
    return made
