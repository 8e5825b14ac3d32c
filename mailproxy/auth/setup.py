"""What both auth roles make of the configuration before they are forked.

In: the configuration.  Out: a Setup, or ConfigInvalid with every problem found.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mailproxy.auth.cache import MIN_SIZE
from mailproxy.auth.sections import Section, Sections
from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.sasl import FLAGS, NOT_BUILT

PENALTY_SOCKET = "anvil-auth-penalty"


@dataclass(frozen=True, slots=True)
class Setup:
    """`protocols`: protocol name ("" for all others) -> its auth settings and its passdb sections."""

    sections: tuple[Section, ...]
    protocols: dict[str, tuple[Any, tuple[Section, ...]]]
    fingerprint: str
    debug: bool
    penalised: bool                     # failures are counted by address


def build(conf: Any) -> Setup:
    collected = Sections()
    protocols = {}
    for protocol in ("", *conf.protocols):
        view = conf.view(protocol=protocol).auth
        passdbs = conf.passdbs(protocol)
        protocols[protocol] = (view, collected.of(passdbs))
    view = protocols[""][0]
    problems = [*collected.problems, *_mechanism_problems(conf, view), *_setting_problems(view)]
    if problems:
        raise ConfigInvalid(problems)
    return Setup(tuple(collected.all), protocols, collected.fingerprint(), view.auth_debug or view.auth_debug_passwords,
                 _penalised(conf))


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
    return [Problem("", 0, text) for text in texts]
