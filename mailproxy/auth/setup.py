"""What both auth roles make of the configuration before they are forked.

In: the configuration.  Out: a Setup, or ConfigInvalid with every problem found.
"""
from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass
from typing import Any

from mailproxy.auth.cache import MIN_SIZE
from mailproxy.auth.passdb.driver import Executing
from mailproxy.auth.sections import Section, Sections, fingerprint_of
from mailproxy.auth.userdb.driver import Ranged
from mailproxy.auth.usersections import UserSection, UserSections
from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.sasl import FLAGS, NOT_BUILT

PENALTY_SOCKET = "anvil-auth-penalty"


@dataclass(frozen=True, slots=True)
class Setup:
    """`protocols`: protocol name ("" for all others) -> its auth settings and its passdb sections; `userdbs`: the
    same for userdb sections."""

    sections: tuple[Section, ...]
    user_sections: tuple[UserSection, ...]
    protocols: dict[str, tuple[Any, tuple[Section, ...]]]
    userdbs: dict[str, tuple[UserSection, ...]]
    fingerprint: str
    debug: bool
    penalised: bool                     # failures are counted by address


def build(conf: Any) -> Setup:
    collected, users = Sections(), UserSections()
    protocols, userdbs = {}, {}
    for protocol in ("", *conf.auth_services):
        view = conf.view(protocol=protocol).auth
        protocols[protocol] = (view, collected.of(conf.passdbs(protocol)))
        userdbs[protocol] = users.of(conf.userdbs(protocol))
    view = protocols[""][0]
    for section in users.all:
        if isinstance(section.driver, Ranged):
            section.driver.valid = (view.first_valid_uid, view.last_valid_uid, view.first_valid_gid,
                                    view.last_valid_gid)
    problems = [*collected.problems, *users.problems, *_mechanism_problems(conf, view), *_setting_problems(view)]
    if problems:
        raise ConfigInvalid(problems)
    for driver in (*(section.driver for section in collected.all), *(section.driver for section in users.all)):
        if isinstance(driver, Executing):
            driver.program.identity = _identity_of(conf.services.get("auth"))
    fingerprint = fingerprint_of([*collected.all, *users.all])
    return Setup(tuple(collected.all), tuple(users.all), protocols, userdbs, fingerprint,
                 view.auth_debug or view.auth_debug_passwords, _penalised(conf))


def _identity_of(service: Any) -> tuple[int, int] | None:
    """The user and group of service auth: programs run as that, as if it had started them.  None: as we are."""
    if service is None or not service.user:
        return None
    try:
        user = pwd.getpwnam(service.user)
        return user.pw_uid, grp.getgrnam(service.group).gr_gid if service.group else user.pw_gid
    except KeyError:                            # the master refuses to start that service
        return None


def _penalised(conf: Any) -> bool:
    """Without anvil's socket (mode = 0) there are no penalties."""
    anvil = conf.services.get("anvil")
    return anvil is not None and any(row.path == PENALTY_SOCKET for row in anvil.unix_listeners)


def _mechanism_problems(conf: Any, view: Any) -> list[Problem]:
    problems = []
    for name in view.auth_mechanisms:
        upper = name.upper()
        if upper in NOT_BUILT:
            problems.append(Problem("", 0, f"auth_mechanisms: Support not compiled in for authentication mechanism "
                                           f"'{upper}'"))
        elif upper not in FLAGS:
            problems.append(Problem("", 0, f"Unknown authentication mechanism '{upper}'"))
        elif upper == "ANONYMOUS":
            if not view.auth_anonymous_username:
                problems.append(Problem("", 0, "ANONYMOUS listed in mechanisms, but anonymous_username not set"))
        elif not any(not passdb.deny for passdb in conf.passdbs()):
            problems.append(Problem("", 0, "No passdbs specified in configuration file. "
                                           f"{upper} mechanism needs one"))
    if not view.auth_mechanisms:
        problems.append(Problem("", 0, "No authentication mechanisms configured"))
    return problems


def _setting_problems(view: Any) -> list[Problem]:
    texts = []
    if 0 < view.auth_cache_size < MIN_SIZE:
        texts.append(f"auth_cache_size value is too small: {view.auth_cache_size}")
    if len(view.auth_username_translation) % 2:
        texts.append("auth_username_translation: the number of characters must be even")
    form, _, size = view.auth_verbose_passwords.partition(":")
    if form not in ("no", "yes", "plain", "sha1") or (size and not size.isdecimal()):
        texts.append(f"auth_verbose_passwords: Invalid value '{view.auth_verbose_passwords}'")
    if view.auth_policy_server_url:
        from mailproxy.auth import policy  # and with it an HTTP client: only for those who have such a server
        texts += policy.problems(view)
    return [Problem("", 0, text) for text in texts]
