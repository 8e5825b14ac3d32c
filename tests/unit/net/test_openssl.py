"""The configuration file that OpenSSL is given, and what a program that was started with one knows of it."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailproxy.net.openssl import Defaults, amended

#: Starts itself again; the second argument stands for a program's own.
_PROGRAM = """
import os, sys
from mailproxy.net import openssl
wanted = openssl.Defaults(sys.argv[1], sys.argv[2])
openssl.settle(wanted, sys.orig_argv)
openssl.settle(openssl.Defaults("TLS_AES_256_GCM_SHA384", ""), ["/nonexistent"])    # once is enough
import ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
suites = [row["name"] for row in context.get_ciphers() if row["protocol"] == "TLSv1.3"]
left = [name for name in os.environ if "OPENSSL" in name]
print(openssl.in_force() == wanted, ":".join(suites), left, len(os.listdir("/proc/self/fd")))
"""


def run(suites: str, curves: str, **environment: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, suites, curves], capture_output=True, text=True, timeout=30,
                          env={**os.environ, **environment}, check=True)
    return done.stdout.split()


def test_a_program_with_other_defaults() -> None:
    assert run("TLS_AES_128_GCM_SHA256", "P-521:P-384") == ["True", "TLS_AES_128_GCM_SHA256", "[]", "4"]
    assert run("", "")[0] == "True"


def test_the_environment_is_as_before(tmp_path: Path) -> None:
    own = tmp_path / "own.cnf"
    own.write_text("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nGroups = P-256\n"
                   "Ciphersuites = TLS_AES_256_GCM_SHA384\n")
    assert run("TLS_AES_128_GCM_SHA256", "", OPENSSL_CONF=str(own))[:3] == [
        "True", "TLS_AES_128_GCM_SHA256", "['OPENSSL_CONF']"]


@pytest.mark.parametrize("wrong", ["a b", "a\nb", "a=b", "$x", "[x]"])
def test_words_that_could_be_something_else_start_nothing(wrong: str) -> None:
    assert not Defaults(wrong, "").valid()
    assert not Defaults("", wrong).valid()


@pytest.mark.parametrize(("system", "section"), [
    ("", "mailproxy_defaults"),
    ("openssl_conf = x # why\n[ x ]\nssl_conf=y\n[y]\nsystem_default = \\\n theirs\n", "theirs"),
    ("openssl_conf = x\n[x]\nproviders = p\n", "mailproxy_defaults"), ("[x]\nssl_conf = y\n", "mailproxy_defaults")])
def test_the_systems_sections_stay(tmp_path: Path, system: str, section: str) -> None:
    path = tmp_path / "openssl.cnf"
    path.write_text(system)
    lines = amended(str(path), Defaults("S", "C")).splitlines()
    assert lines[0] == f".include {path}"
    assert lines[-3:] == [f"[{section}]", "Ciphersuites = S", "Groups = C"]
    if "openssl_conf" in system:
        assert not any(line.startswith("openssl_conf") for line in lines)


def test_without_a_file_of_the_system() -> None:
    assert amended("/nonexistent", Defaults("S")).splitlines()[-2:] == ["[mailproxy_defaults]", "Ciphersuites = S"]
