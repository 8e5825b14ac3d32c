"""Certificates that have expired or soon will, and those of server names that do not fit their keys.

(A start loads the other pairs itself; of thousands of names it loads each when it is first asked for.)

In: the configuration.  Out: findings with the place of the setting.
"""
from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mailproxy.check.der import Certificate, certificates
from mailproxy.check.findings import Findings
from mailproxy.config.loader import Config
from mailproxy.config.schema import USED
from mailproxy.config.tree import Scope, Written
from mailproxy.config.view import text_of
from mailproxy.errors import ConfigInvalid
from mailproxy.login.contexts import EAGER, problem_of
from mailproxy.login.served import recipe_of
from mailproxy.net.tls import BadTls

#: Time enough to renew one.
SOON = timedelta(days=30)
#: Own certificates, without which no client gets in; authorities, of which one may be old without harm.
_OWN = ("ssl_cert", "ssl_alt_cert", "ssl_client_cert")
_AUTHORITIES = ("ssl_ca",)


def look(conf: Config, findings: Findings, now: datetime | None = None) -> None:
    moment = now or datetime.now(UTC)
    for scope in (conf.top, *conf.scopes):
        _scope(scope, findings, moment)
    if len(conf.local_names) > EAGER:
        _pairs(conf, findings)


def _pairs(conf: Config, findings: Findings) -> None:
    for name in conf.local_names:
        view = conf.view(local_name=name)
        if view.ssl.ssl_cert and view.ssl.ssl != "no":
            recipe = recipe_of(view, named=True)
            try:
                recipe.make(recipe.pairs)
            except BadTls as error:
                findings.problems([problem_of(conf, view, error, f"local_name {name}: ")])


def _scope(scope: Scope, findings: Findings, now: datetime) -> None:
    for key in (*_OWN, *_AUTHORITIES):
        written = scope.node.settings.get(key)
        if written is None:
            continue
        try:
            found = list(certificates(text_of(written, USED[key])))
        except ConfigInvalid:       # unreadable: said elsewhere
            continue
        except ValueError as error:
            findings.error(written.path, written.line, f"{key}: {error}")
            continue
        for certificate in found:
            _age(key, written, certificate, findings, now)


def _age(key: str, written: Written, certificate: Certificate, findings: Findings, now: datetime) -> None:
    label = f"{key}: certificate of {certificate.name or 'nobody'}"
    begins, ends = certificate.begins.date().isoformat(), certificate.ends.date().isoformat()
    if certificate.ends <= now:
        tell = findings.error if key in _OWN else findings.warning
        tell(written.path, written.line, f"{label} expired on {ends}")
    elif certificate.begins > now:
        findings.error(written.path, written.line, f"{label} is not valid before {begins}")
    elif certificate.ends - now < SOON:
        left = (certificate.ends - now).days
        findings.warning(written.path, written.line, f"{label} expires on {ends}, in {left} day{'s'[left == 1:]}")
