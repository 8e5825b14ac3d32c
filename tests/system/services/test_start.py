"""What a start leaves and finds: last words, the list of instances, keys with a password."""
from __future__ import annotations

import imaplib
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import servers
from tests.system.services.test_programs import TEXT

Start = Callable[..., servers.Server]


def test_last_words_and_the_list_of_instances(mailproxy_server: Start) -> None:
    server = mailproxy_server(TEXT + "instance_name = r7\n", "imap")
    run = server.directory / "run"
    row = (server.directory / "state" / "instances").read_text().rstrip("\n").split("\t")
    assert row[1:] == ["r7", str(run), str(server.conf)]
    server.process.terminate()
    assert server.process.wait(20) == 0
    (run / "master-fatal.lastlog").write_text("it was the cat")
    again = subprocess.Popen([sys.executable, str(servers.PROJECT / "master.py"), "-F", "-c", str(server.conf)],
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    servers.wait_until(lambda: servers.answers(server.port["imap"], False))
    again.terminate()
    _, said = again.communicate(timeout=20)
    assert said == "Last died with error (see error log for more information): it was the cat\n"
    assert not (run / "master-fatal.lastlog").exists()
    assert again.returncode == 0


@pytest.mark.parametrize("curves", ["", "X25519:P-256"], ids=["once", "before a second start"])
def test_the_password_of_the_key_is_asked_for(short_dir: Path, no_leaks: None, curves: str) -> None:
    """Once, even where OpenSSL's defaults must be changed, for which the program starts itself anew."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=localhost", "-days", "90",
                    "-keyout", short_dir / "key", "-out", short_dir / "cert", "-passout", "pass:very secret"],
                   check=True, capture_output=True)
    os.chmod(short_dir / "key", 0o600)
    port = servers.free_port()
    conf = short_dir / "conf"
    conf.write_text(TEXT.replace("@dir@", str(short_dir)).replace("@imap@", str(port)).replace(
        "ssl = no", f"ssl = required\nssl_cert = <{short_dir}/cert\nssl_key = <{short_dir}/key\n"
                    f"ssl_curve_list = {curves}"))
    command = [sys.executable, str(servers.PROJECT / "master.py"), "-F", "-c", str(conf)]
    refused = subprocess.run([*command[:2], "-p", *command[2:]], input="wrong\n", text=True, capture_output=True,
                             timeout=60, check=False, start_new_session=True)
    assert refused.returncode == 89
    assert "wrong" not in refused.stderr.replace("wrong password", "")
    process = subprocess.Popen([*command[:2], "-p", *command[2:]], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write("very secret\n")
    process.stdin.close()
    try:
        servers.wait_until(lambda: servers.answers(port, False), servers.START_TIMEOUT)
        process.send_signal(1)
        log = short_dir / "log"
        servers.wait_until(lambda: "Configuration reloaded" in log.read_text())         # it still knows
        context = ssl.create_default_context(cafile=str(short_dir / "cert"))
        context.check_hostname = False
        with imaplib.IMAP4(servers.HOST, port, timeout=20) as client:
            client.starttls(context)
        assert "very secret" not in log.read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0
        if process.stderr is not None:
            process.stderr.close()
        shutil.rmtree(short_dir / "run", ignore_errors=True)


def test_words_about_the_build() -> None:
    def say(option: str) -> str:
        return subprocess.run([sys.executable, str(servers.PROJECT / "master.py"), option], capture_output=True,
                              text=True, timeout=60, check=True).stdout
    assert say("--build-options").startswith("Build options: ioloop=epoll ")
    real = subprocess.run(["/usr/sbin/dovecot", "--hostdomain"], capture_output=True, text=True, timeout=60, check=True)
    assert say("--hostdomain") == real.stdout
