"""MariaDB and PostgreSQL servers for tests: own data directories, unix sockets and loopback ports, ended by pid."""
from __future__ import annotations

import contextlib
import glob
import grp
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_START_SECONDS = 30.0
PASSWORD = "da'ta base"


def _free_port() -> int:
    """One that stays free until the server takes it: not of those that the kernel gives to others."""
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class _Server:
    """`account`: the system's user that the server runs as, since it refuses root."""

    account = ""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-sql-"))
        os.chmod(self.directory, 0o755)
        entry = pwd.getpwnam(self.account)
        os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._prepare()
        except BaseException:
            self.remove()
            raise

    def _as_account(self, words: list[str]) -> subprocess.Popen[bytes]:
        groups = [row.gr_gid for row in grp.getgrall() if self.account in row.gr_mem]
        with open(self.directory / "output", "ab") as output:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.directory,
                                    env={**os.environ, "TMPDIR": str(self.directory)}, user=self.account,
                                    group=pwd.getpwnam(self.account).pw_gid, extra_groups=groups)

    def _prepare(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _alive(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = self._as_account(self._command())
        limit = time.monotonic() + _START_SECONDS
        while not self._alive():
            assert self._process.poll() is None, (self.directory / "output").read_text(errors="replace")
            assert time.monotonic() < limit, f"{type(self).__name__} did not start"
            time.sleep(0.05)

    def end(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def remove(self) -> None:
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)


class MariaDb(_Server):
    account = "mysql"

    def _prepare(self) -> None:
        self.socket = str(self.directory / "s")
        self.certificate = f"{self.directory}/cert.pem"
        made = self._as_account(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                                 "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                                 "-keyout", f"{self.directory}/key.pem", "-out", self.certificate])
        assert made.wait(60) == 0
        install = self._as_account(["mariadb-install-db", "--no-defaults", f"--datadir={self.directory}/data",
                                    "--auth-root-authentication-method=normal", "--skip-test-db",
                                    "--skip-name-resolve"])
        assert install.wait(60) == 0, (self.directory / "output").read_text(errors="replace")

    def _command(self) -> list[str]:
        return ["/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.directory}/data", f"--socket={self.socket}",
                f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin",
                "--innodb-buffer-pool-size=8M", "--skip-innodb-doublewrite", "--performance-schema=OFF",
                f"--ssl-cert={self.certificate}", f"--ssl-key={self.directory}/key.pem",
                f"--pid-file={self.directory}/pid", "--max-connections=200"]

    def _alive(self) -> bool:
        return subprocess.run(["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "-uroot", "ping"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0

    def run(self, script: str, charset: str = "utf8mb4") -> None:
        subprocess.run(["mariadb", "--no-defaults", f"--socket={self.socket}", "-uroot",
                        f"--default-character-set={charset}"], input=script.encode(), check=True)


class Postgres(_Server):
    account = "postgres"

    def _prepare(self) -> None:
        self.socket = str(self.directory)
        self._programs = max(glob.glob("/usr/lib/postgresql/*/bin"))
        initdb = self._as_account([f"{self._programs}/initdb", "-D", f"{self.directory}/data", "--no-sync",
                                   "--auth=trust", "--encoding=UTF8", "--locale=C"])
        assert initdb.wait(60) == 0, (self.directory / "output").read_text(errors="replace")
        hba = self.directory / "data" / "pg_hba.conf"
        hba.write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
                       "local all all scram-sha-256\n")

    def _command(self) -> list[str]:
        return [f"{self._programs}/postgres", "-D", f"{self.directory}/data", "-p", str(self.port),
                "-k", self.socket, "-c", "listen_addresses=127.0.0.1", "-F", "-c", "shared_buffers=8MB"]

    def _alive(self) -> bool:
        words = ["pg_isready", "-q", "-h", self.socket, "-p", str(self.port)]
        return subprocess.run(words, check=False).returncode == 0

    def run(self, script: str) -> None:
        subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-p", str(self.port),
                        "-U", "postgres", "postgres"], input=script.encode(), check=True, stdout=subprocess.DEVNULL)
