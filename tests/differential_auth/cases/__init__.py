"""All groups: name -> Group."""
from __future__ import annotations

from tests.differential_auth.harness import Group

from . import cached, chain, fields, lists, masters, userdbs, variables

_PLAIN = "auth_mechanisms = plain login\n"
GROUPS = {group.name: group for group in (
    Group("chain", _PLAIN, chain.CASES),
    Group("fields", _PLAIN + "auth_proxy_self = 127.0.0.2\n", fields.CASES),
    Group("certificates", _PLAIN + "auth_ssl_require_client_cert = yes\n", fields.CERTIFICATES),
    Group("certificate-names", _PLAIN + "auth_ssl_require_client_cert = yes\nauth_ssl_username_from_cert = yes\n",
          fields.CERTIFICATES),
    Group("masters", _PLAIN + "auth_master_user_separator = *\n", masters.CASES),
    Group("variables", _PLAIN, variables.CASES),
    Group("userdbs", _PLAIN, userdbs.CASES),
    Group("lists", _PLAIN + lists.FILES, lists.CASES),
    Group("lists-static", _PLAIN + lists.STATIC, lists.CASES),
    Group("lists-missing", _PLAIN + lists.MISSING, lists.CASES),
    Group("uncached", _PLAIN, cached.UNCACHED, True),
    Group("cache", _PLAIN + "auth_cache_size = 1M\n", cached.CASES, True, cached.change),
    Group("cache-worker", _PLAIN + "auth_cache_size = 1M\nauth_cache_verify_password_with_worker = yes\n",
          cached.WORKER_CASES, True),
)}
