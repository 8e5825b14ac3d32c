"""Real directory and key-value servers for tests: slapd and redis-server, on ports and in directories of their own."""
from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import ldap
import redis

from tests.certificates import Authority
from tests.servers import HOST, free_port

SUFFIX = "dc=x"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{SUFFIX}", "adminpw"
_START_SECONDS = 15.0
_SLAPD_CONF = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile @DIR@/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile @CA@
TLSCertificateFile @CERT@
TLSCertificateKeyFile @KEY@
allow bind_v2
database mdb
suffix "dc=x"
rootdn "cn=admin,dc=x"
rootpw adminpw
directory @DIR@/db
maxsize 10485760
sizelimit 500
access to attrs=userPassword by anonymous auth by * none
access to * by * read
"""
_PEOPLE = """dn: dc=x
objectClass: dcObject
objectClass: organization
dc: x
o: test

dn: ou=people,dc=x
objectClass: organizationalUnit
ou: people

dn: cn=staff,dc=x
objectClass: organizationalRole
cn: staff
description: group of staff

dn: uid=joe,ou=people,dc=x
objectClass: inetOrgPerson
objectClass: posixAccount
uid: joe
cn: Joe
sn: Doe
userPassword: joepw
uidNumber: 1001
gidNumber: 100
homeDirectory: /home/joe
mail: joe@ex.com
mail: second@ex.com
title: Häuptling
employeeNumber: 5
secretary: cn=staff,dc=x
roomNumber: title
destinationIndicator: host1

dn: uid=ann,ou=people,dc=x
objectClass: inetOrgPerson
objectClass: posixAccount
uid: ann
cn: Ann
sn: A
userPassword: {SSHA}YixwsuWZrW9ornwPuDMSyNq4QgkwAIoV
uidNumber: 1002
gidNumber: 100
homeDirectory: /home/ann

dn: uid=nopw,ou=people,dc=x
objectClass: inetOrgPerson
objectClass: posixAccount
uid: nopw
cn: N
sn: N
uidNumber: 1003
gidNumber: 100
homeDirectory: /home/nopw

dn: cn=twice1,ou=people,dc=x
objectClass: inetOrgPerson
objectClass: posixAccount
cn: twice1
uid: twice
sn: T
userPassword: pw
uidNumber: 1004
gidNumber: 100
homeDirectory: /home/t1

dn: cn=twice2,ou=people,dc=x
objectClass: inetOrgPerson
objectClass: posixAccount
cn: twice2
uid: twice
sn: T
userPassword: pw
uidNumber: 1005
gidNumber: 100
homeDirectory: /home/t2

dn: uid=o\\2Cdd\\28x\\29,ou=people,dc=x
objectClass: inetOrgPerson
objectClass: posixAccount
uid: o,dd(x)
cn: Odd
sn: O
userPassword: oddpw
uidNumber: 1006
gidNumber: 100
homeDirectory: /home/odd
"""


class Slapd:
    """`uri`: plain and StartTLS; `secure`: TLS from the start; `ca`: the file to trust."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.secure_port = free_port(), free_port()
        self.uri = f"ldap://{HOST}:{self.port}"
        self.secure = f"ldaps://{HOST}:{self.secure_port}"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "db").mkdir()
        authority = Authority(directory)
        pair = authority.issue(HOST)
        self.ca = authority.authority
        conf = _SLAPD_CONF
        for name, path in (("DIR", directory), ("CA", self.ca), ("CERT", pair.certificate), ("KEY", pair.key)):
            conf = conf.replace(f"@{name}@", str(path))
        (directory / "slapd.conf").write_text(conf)
        (directory / "people.ldif").write_text(_PEOPLE)
        subprocess.run(["/usr/sbin/slapadd", "-q", "-f", str(directory / "slapd.conf"),
                        "-l", str(directory / "people.ldif")], check=True, stdin=subprocess.DEVNULL)
        for path in (directory, *directory.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def start(self) -> None:
        with (self.directory / "slapd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/slapd", "-f", str(self.directory / "slapd.conf"), "-h", f"{self.uri}/ {self.secure}/",
                 "-d", "0"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "slapd.log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.05)

    def _answers(self) -> bool:
        handle = ldap.initialize(self.uri)
        try:
            handle.simple_bind_s(ADMIN, ADMIN_PASSWORD)
        except ldap.LDAPError:
            return False
        finally:
            handle.unbind_ext()
        return True

    def change(self, dn: str, attribute: str, *values: str) -> None:
        handle = ldap.initialize(self.uri)
        handle.simple_bind_s(ADMIN, ADMIN_PASSWORD)
        handle.modify_s(dn, [(ldap.MOD_REPLACE, attribute, [value.encode() for value in values])])
        handle.unbind_ext()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:   # it lets open connections finish, and has none to wait for here
                self._process.kill()
                self._process.wait(10)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


@contextlib.contextmanager
def slapd() -> Iterator[Slapd]:
    with tempfile.TemporaryDirectory(prefix="mailproxy-ldap-") as directory:
        server = Slapd(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


class RedisServer:
    """`socket`: a UNIX socket beside the port; `client`: to put values in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.socket = str(directory / "socket")
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(HOST, self.port)

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "install redis-server"
        self._process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", HOST, "--unixsocket", self.socket, "--unixsocketperm", "777",
             "--dir", str(self.directory), "--save", "", "--appendonly", "no"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.client.ping()
                return
            except redis.RedisError:
                assert self._process.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="mailproxy-redis-") as directory:
        Path(directory).chmod(0o755)
        server = RedisServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()
            server.client.close()
