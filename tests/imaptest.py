"""python -m tests.imaptest DIRECTORY: imaptest's scripted suite, to a real Dovecot directly and through mailproxy.

DIRECTORY is a built checkout of github.com/dovecot/imaptest.  For Debian 12 that is commit 924f619, in whose sources
the three calls of imap_parser_create() get one more argument, NULL:

    apt-get install dovecot-dev automake libtool pkg-config make gcc
    sed -i -E 's/(imap_parser_create\\([^;]*)\\);/\\1, NULL);/' src/*.c
    ./autogen.sh && ./configure --with-dovecot=/usr/lib/dovecot && make

Each script runs alone, with a user of its own.  Exit code 0: both ways had the same result for each of them.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import servers

#: Seconds for one script; the longest takes five.
LIMIT = 60.0
#: Scripts at the same time.
PARALLEL = 4
#: Where libdovecot is.
_LIBRARIES = "/usr/lib/dovecot"
_PROXY = servers.HEAD + """
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {
  driver = static
  args = password=secret proxy=y host=127.0.0.1 port=BACKEND
}
service imap-login {
  service_count = 0
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
"""


def _run(program: Path, script: Path, mailbox: Path, port: int, user: str) -> str:
    """What imaptest says of it, without what differs from run to run."""
    mails = script.with_suffix(".mbox")
    command = [str(program), f"host={servers.HOST}", f"port={port}", f"user={user}", f"pass={servers.PASSWORD}",
               f"mbox={mails if mails.exists() else mailbox}", f"test={script}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False, cwd=script.parent,
                              env={**os.environ, "LD_LIBRARY_PATH": _LIBRARIES})
    except subprocess.TimeoutExpired:
        return "no end in time"
    text = (done.stdout + done.stderr).decode("latin-1").replace(user, "USER").replace(str(port), "PORT")
    # times, ids of mailboxes, tags
    text = re.sub(r"\d+(\.\d+)? secs?\b|\b\d{9,}\b|\[\d+\]|[0-9a-f]{16,}", "N", text)
    return f"exit {done.returncode}\n{text}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.imaptest", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    program, suite = options.directory / "src/imaptest", options.directory / "src/tests"
    scripts = [path for path in sorted(suite.iterdir()) if path.suffix != ".mbox" and not path.name.startswith(".")
               and path.is_file() and (not options.only or path.name in options.only)]
    places = [Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp")) for _ in range(2)]
    for place in places:
        place.chmod(0o755)
    (places[0] / "mail").mkdir()
    (places[0] / "mail").chmod(0o777)
    backend = servers.dovecot(servers.BACKEND + "\nnamespace inbox {\n  inbox = yes\n  separator = /\n}\n", places[0])
    started = [backend]
    try:
        backend.wait("imap")
        proxy = servers.mailproxy(_PROXY.replace("BACKEND", str(backend.port["imap"])), places[1])
        started.append(proxy)
        proxy.wait("imap")

        def both(script: Path) -> tuple[str, str]:
            first, second = (_run(program, script, suite / "default.mbox", server.port["imap"], f"{name}-{script.stem}")
                             for name, server in (("direct", backend), ("proxied", proxy)))
            return first, second

        with ThreadPoolExecutor(PARALLEL) as pool:
            results = dict(zip(scripts, pool.map(both, scripts), strict=True))
    finally:
        for server in reversed(started):
            server.stop()
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
    equal = 0
    for script, (direct, proxied) in results.items():
        same = direct == proxied
        equal += same
        print(f"{script.name:32} {direct.partition(chr(10))[0]:12} {'same' if same else 'DIFFERENT'}")
        if not same:
            print(f"--- direct\n{direct}\n--- through the proxy\n{proxied}")
    passing = sum(direct.startswith("exit 0") for direct, _ in results.values())
    print(f"{equal} of {len(results)} equal; {passing} pass")
    return 0 if equal == len(results) and passing else 1


if __name__ == "__main__":
    sys.exit(main())
