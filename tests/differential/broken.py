"""Configurations with more than one mistake, or one in an unlikely place; the single ones are in the tests of the
component.  What doveconf stops at must be among the errors that we report.
"""
from __future__ import annotations

from tests.component.config.snippets import BAD, WHOLE

#: What the cases include.
FILES = {
    "inc/a.conf": "ssl = no\n",
    "inc/c.conf": "ssl = required\n",
    "inc/broken.inc": "\nfoo = 1\n",
    "inc/unclosed.inc": "service imap-login {\n  service_count = 0\n",
    "inc/closing.inc": "  process_limit = 5\n}\n",
    "inc/one.inc": "!include two.inc\n",
    "inc/two.inc": "login_greeting = x\n!include one.inc\n",
    "inc/passdb.inc": "passdb {\n  driver = static\n  argz = x\n}\n",
    "inc/bad-values.conf": "auth_verbose = maybe\nauth_cache_ttl = soon\n",
}
_NESTED = "local 10.0.0.0/8 {\n  protocol imap {\n    %s\n  }\n}\n"

_OWN = {
    "two unknown settings": "foo = 1\nbar = 2\n",
    "unknown setting behind a bad value": "ssl = maybe\nfoo = 1\n",
    "bad value behind an unknown setting": "foo = 1\nssl = maybe\n",
    "many bad values": "auth_verbose = x\nauth_cache_size = x\nauth_cache_ttl = x\ndefault_client_limit = x\nssl = x\n",
    "bad value and a failed check": "default_login_user = nosuchuser\nauth_verbose = x\n",
    "two failed checks": "protocols = imap nosuch\nservice imap-login {\n  vsz_limit = 1k\n}\n",
    "error in every section": "service imap-login {\n  foo = 1\n}\npassdb {\n  foo = 1\n}\n"
                              "protocol imap {\n  foo = 1\n}\n",
    "missing brace at the first of two": "service imap-login {\n  service_count = 0\nservice pop3-login {\n}\n",
    "brace too many": "service imap-login {\n  service_count = 0\n}\n}\nssl = no\n",
    "setting of another section": "service imap-login {\n  port = 143\n}\n",
    "listener without its service": "inet_listener imap {\n  port = 143\n}\n",
    "passdb driver in the head and a typo": "passdb static {\n  argz = x\n}\n",
    "json": '{\n  "protocols": ["imap"]\n}\n',
    "yaml": "protocols:\n  - imap\n",
    "ini": "[imap]\nport = 143\n",
    "xml": "<imap port=143>\n",
    "shell": "export PROTOCOLS=imap\n",
    "version line of 2.4": "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n",
    "2.4 filter": "passdb passwd-file {\n  passwd_file_path = /etc/x\n}\n",
    "2.4 certificate": "ssl_server {\n  cert_file = /etc/x\n}\n",
    "unclosed section of an include": "!include inc/unclosed.inc\n",
    "section closed in the next include": "!include inc/unclosed.inc\n!include inc/closing.inc\nfoo = 1\n",
    "includes in a circle": "!include inc/one.inc\n",
    "error in an include in a section": "protocol imap {\n  !include inc/passdb.inc\n}\n",
    "errors in included files of a pattern": "!include inc/*.conf\n",
    "include of a directory": "!include inc\n",
    "include_try of nothing": "!include_try\n",
    "error behind a missing include": "!include_try inc/none\n!include inc/none\nfoo = 1\n",
    "word of a filter wrong": "local 10.0.0.0/8 {\n  locall 10.1.0.0/16 {\n  }\n}\n",
    "bad value in nested filters": _NESTED % "ssl = maybe",
    "unknown in nested filters": _NESTED % "foo = 1",
    "passdb in nested filters": _NESTED % "passdb {\n    driver = pam\n  }",
    "variable in nested filters": _NESTED % "login_greeting = $nothing",
    "path key in nested filters": _NESTED % "service/imap-login/foo = 1",
    "address that is none": "remote 10.0.0.256 {\n}\n",
    "host that is none": "local no-such-host.invalid {\n}\n",
    "mask that is none": "remote 10.0.0.0/x {\n}\n",
    "v6 mask": "remote ::1/129 {\n}\n",
    "families mixed": "local 10.0.0.0/8 {\n  local ::1 {\n  }\n}\n",
    "wider inside": "remote 10.1.0.0/16 {\n  remote 10.0.0.0/8 {\n  }\n}\n",
    "filter in a service": "service imap-login {\n  local 10.0.0.0/8 {\n  }\n}\n",
    "protocol without a name": "protocol {\n  foo = 1\n}\n",
    "service without a name": "service {\n}\n",
    "reference to itself of nothing": "foo = $foo bar\n",
    "reference to itself in a section": "service imap-login {\n  user = $user x\n}\n",
    "dollar alone": "login_greeting = a $ b\n",
    "dollar before a comma": "mail_plugins = $mail_plugins,quota\n",
    "number from a variable": "mail_home = xyz\ndefault_client_limit = $mail_home\n",
    "quoted number": 'default_client_limit = "12x"\n',
    "number with a comment": "default_client_limit = 12;# x\n",
    "size with a blank unit": "auth_cache_size = 5 megabytes\n",
    "time in words": "auth_cache_ttl = one hour\n",
    "two times": "auth_cache_ttl = 1h 30m\n",
    "file for a number": "default_client_limit = <inc/a.conf\n",
    "named databases twice in a filter": "passdb a {\n  driver = pam\n}\nprotocol imap {\n"
                                         + 2 * "  passdb a {\n    driver = pam\n  }\n" + "}\n",
    "listener in two services": "protocols = imap\n" + "".join(
        f"service {name} {{\n  executable = /bin/true\n  inet_listener a {{\n    port = 5000\n  }}\n}}\n"
        for name in ("imap-login", "foo")),
    "socket twice": "service foo {\n  executable = /bin/true\n  unix_listener auth-master {\n  }\n}\n",
    "tab as separator": "ssl\tno\n",
    "equals twice": "== x\n",
    "only a brace": "{\n",
    "binary": "\x7fELF\x02\x01\x01\n\x01\x02\n",
}

BROKEN: dict[str, str] = {**_OWN, **{f"single {name}": text for name, text in {**BAD, **WHOLE}.items()}}
