"""The configuration of the demo: the commented defaults of conf.d, and what a demo must say differently.

In: directory, ports, certificate.  Out: a configuration file that starts without root, and one for each SQL passdb.
"""
from __future__ import annotations

import grp
import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from mailproxy.demo import people
from mailproxy.demo.place import HOST, DemoFailed, checkout

_MAIN = """\
# Written by mailproxy.demo at every start.
!include {conf_d}/*.conf

base_dir = {dir}/run
state_dir = {dir}/state
instance_name = mailproxy-demo
listen = {host}
log_path = {dir}/log
protocols = imap pop3 sieve submission lmtp
lmtp_proxy = yes
auth_verbose = yes
{users}
ssl_cert = <{crt}
ssl_key = <{key}

service imap-login {{
{login}  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service pop3-login {{
{login}  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
  }}
}}
service managesieve-login {{
{login}  inet_listener sieve {{
    port = {sieve}
  }}
}}
service submission-login {{
{login}  inet_listener submission {{
    port = {submission}
  }}
  inet_listener submissions {{
    port = {submissions}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}

auth_master_user_separator = {separator}
passdb {{
  driver = sql
  args = {dir}/masters-sql.conf.ext
  master = yes
  result_success = continue
}}
passdb {{
  driver = sql
  args = {dir}/users-sql.conf.ext
}}
"""

#: Without root every process stays what it is, and nobody can change its root directory.
_OWN_USER = """\
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
"""
#: As root: users that every system has.
_ROOT_USERS = """\
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
"""
_NO_CHROOT = "  chroot =\n"


@dataclass(frozen=True, slots=True)
class Demo:
    """Where everything of one demo is."""

    directory: Path
    ports: dict[str, int]                   # by listener
    backends: dict[str, dict[str, int]]     # by name and protocol
    certificate: Path
    key: Path


def conf_d() -> Path:
    """The default set: of the checkout, or where an installation keeps it."""
    for path in (checkout() / "conf.d", Path(sys.prefix) / "share" / "mailproxy" / "conf.d"):
        if path.is_dir():
            return path
    raise DemoFailed("the default configuration conf.d is missing: run the demo in a checkout of the project")


def write(demo: Demo) -> Path:
    """All files; the path of the main one."""
    root = os.geteuid() == 0
    database = demo.directory / "users.sqlite"
    people.write(database, HOST, demo.backends)
    (demo.directory / "run").mkdir(exist_ok=True)
    (demo.directory / "state").mkdir(exist_ok=True)
    (demo.directory / "log").unlink(missing_ok=True)        # of the last run
    for name, query in (("users", people.PASSWORD_QUERY), ("masters", people.MASTER_QUERY)):
        path = demo.directory / f"{name}-sql.conf.ext"
        path.write_text(f"driver = sqlite\nconnect = {database}\npassword_query = {' '.join(query.split())}\n")
    own = _OWN_USER.format(user=pwd.getpwuid(os.geteuid()).pw_name, group=grp.getgrgid(os.getegid()).gr_name)
    main = demo.directory / "mailproxy.conf"
    main.write_text(_MAIN.format(
        conf_d=conf_d(), dir=demo.directory, host=HOST, users=_ROOT_USERS if root else own, crt=demo.certificate,
        key=demo.key, login="" if root else _NO_CHROOT, separator=people.SEPARATOR, **demo.ports))
    return main
