#!/usr/bin/env python3
"""Thousands of `local_name` certificates: time from the start to the first greeting, memory, and whether sampled names
get their certificates, beside Dovecot with the same files.

    python bench/sni.py [--names 2000] [--dovecot-names 300] [--patience 120]

Dovecot's time grows with the square of the number of names: at 2,000 it may not answer at all, so it can
be given fewer.
Run it as root from a checkout with its virtual environment.  Everything lies in a directory below /tmp and is removed.
"""
from __future__ import annotations

import argparse
import datetime
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 50

_CONF = """
base_dir = {directory}/run
log_path = {directory}/log
protocols = imap
listen = 127.0.0.1
ssl_cert = <{certificates}/0.pem
ssl_key = <{certificates}/0.key
service imap-login {{
  service_count = 0
  process_min_avail = 2
  client_limit = 1000
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
passdb {{
  driver = static
  args = nopassword=y proxy=y host=127.0.0.1
}}
"""
_NAME = ("local_name {name} {{\n  ssl_cert = <{certificates}/{number}.pem\n"
         "  ssl_key = <{certificates}/{number}.key\n}}\n")


def issue(directory: Path, count: int) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for number in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name_of(number))])
        certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
                       .public_key(key.public_key()).serial_number(number + 1).not_valid_before(now)
                       .not_valid_after(now + datetime.timedelta(days=60)).sign(key, hashes.SHA256()))
        (directory / f"{number}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (directory / f"{number}.key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def name_of(number: int) -> str:
    return f"mail{number}.example.com"


def shown(port: int, name: str) -> str:
    """The common name of the certificate for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 5) as sock, \
            context.wrap_socket(sock, server_hostname=name) as link:
        if not link.recv(4096).startswith(b"* OK"):
            raise OSError("no greeting")
        certificate = x509.load_der_x509_certificate(link.getpeercert(binary_form=True) or b"")
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def memory(pid: int) -> int:
    """PSS of a process and its children, KiB."""
    pids = [pid]
    for one in pids:
        pids += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return sum(int(line.split()[1]) for one in pids
               for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))


def measure(command: list[str], place: Path, count: int, patience: float) -> list[str]:
    """A row of the table."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = Path(tempfile.mkdtemp(dir=place))
    directory.chmod(0o755)
    conf = directory / "conf"
    conf.write_text(_CONF.format(directory=directory, certificates=place, port=port) + "".join(
        _NAME.format(name=name_of(number), certificates=place, number=number) for number in range(count)))
    begun = time.monotonic()
    process = subprocess.Popen([*command, "-F", "-c", str(conf)], stdin=subprocess.DEVNULL)
    try:
        while True:
            try:
                shown(port, name_of(0))
                break
            except OSError:
                if process.poll() is not None or time.monotonic() - begun > patience:
                    return [str(count), f"no answer in {patience:.0f} s", "-", "-", "-"]
                time.sleep(0.01)
        started = time.monotonic() - begun
        at_start = memory(process.pid)
        names = [name_of(number) for number in random.sample(range(count), min(SAMPLES, count))]
        begun = time.monotonic()
        right = sum(shown(port, name) == name for name in names)
        each = (time.monotonic() - begun) / len(names) * 1000
        time.sleep(10)                  # whatever it still does in the background
        return [str(count), f"{started:.2f} s", f"{at_start / 1024:.0f} / {memory(process.pid) / 1024:.0f} MiB",
                f"{right} of {len(names)}", f"{each:.1f} ms"]
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=2000)
    parser.add_argument("--dovecot-names", type=int, default=0, help="0: as many")
    parser.add_argument("--patience", type=float, default=120.0)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sni-"))
    place.chmod(0o755)
    try:
        issue(place, options.names)
        print(f"{'':12}{'names':>6}  {'first answer':>20}  {'PSS start/later':>18}  {'right':>10}  {'each':>9}")
        for name, command, count in (
                ("mailproxy", [sys.executable, str(ROOT / "master.py")], options.names),
                ("dovecot", [shutil.which("dovecot", path=f"/usr/sbin:{os.environ.get('PATH', '')}") or "dovecot"],
                 options.dovecot_names or options.names)):
            row = measure(command, place, count, options.patience)
            print(f"{name:12}{row[0]:>6}  {row[1]:>20}  {row[2]:>18}  {row[3]:>10}  {row[4]:>9}", flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
