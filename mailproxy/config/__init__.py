"""The configuration: dovecot.conf text in, frozen typed settings out.

Reading order: `lexer` (lines) -> `parser` (sections, includes, variables, filters; `schema` says what exists) ->
`loader` (whole-configuration checks, services, `Config`) -> `view` (typed groups per connection) and `dump`.

    conf = config.load("/etc/dovecot/dovecot.conf")         # ConfigInvalid carries all problems
    conf.view(protocol="imap", local_name="mail.example.org").ssl.ssl_cert
"""
from __future__ import annotations

from mailproxy.config.loader import Config, load
from mailproxy.config.schema.sections import Passdb
from mailproxy.config.services import InetListener, Service, UnixListener
from mailproxy.config.view import View

__all__ = ["Config", "InetListener", "Passdb", "Service", "UnixListener", "View", "load"]
