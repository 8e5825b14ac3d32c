"""What is wrong with settings that mailproxy itself has no use for: mail storage, other services, statistics.

A value that Dovecot refuses is a mistake whoever reads it.  In: scopes and sections.  Out: texts of errors.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

from mailproxy.config.eventfilters import syntax_error
from mailproxy.config.schema import ROOT
from mailproxy.config.tree import Node, Scope

#: Lists of words -> (what Dovecot calls a member, members).  A member that ends in = or : takes a value.
_WORDS: dict[str, tuple[str, frozenset[str]]] = {
    "imap_client_workarounds": ("workaround", frozenset(
        ("delay-newmail", "tb-extra-mailbox-sep", "tb-lsub-flags"))),
    "pop3_client_workarounds": ("workaround", frozenset(("outlook-no-nuls", "oe-ns-eoh"))),
    "lmtp_client_workarounds": ("workaround", frozenset(("whitespace-before-path", "mailbox-for-path"))),
    "submission_client_workarounds": ("workaround", frozenset(
        ("whitespace-before-path", "mailbox-for-path", "implicit-auth-external", "exotic-backend"))),
    "managesieve_client_workarounds": ("workaround", frozenset()),
    "imapc_features": ("feature", frozenset(
        ("rfc822.size", "fetch-headers", "gmail-migration", "search", "no-examine", "proxyauth",
         "fetch-msn-workarounds", "fetch-fix-broken-mails", "modseq", "delay-login", "fetch-bodystructure", "send-id",
         "fetch-empty-is-expunged", "no-msn-updates", "acl", "guid-forced", "throttle:"))),
    "pop3c_features": ("feature", frozenset(("no-pipelining",))),
    "dsync_features": ("feature", frozenset(("empty-header-workaround",))),
    "mail_attachment_detection_options": ("option", frozenset(
        ("add-flags", "add-flags-on-save", "no-flags-on-fetch", "exclude-inlined", "content-type="))),
}
_THROTTLE = re.compile(r"throttle:[0-9]+:[0-9]+:[0-9]+\Z", re.IGNORECASE)
_NOT_EMPTY = ("dsync_alt_char", "dsync_hashed_headers")
_NOT_ZERO = ("imapc_max_idle_time", "mailbox_idle_check_interval")
_CACHE_MAX = 1 << 30
_HASHES = {"md4": 128, "md5": 128, "sha1": 160, "sha256": 256, "sha384": 384, "sha512": 512, "size": 0}
_UIDL = re.compile(r"%(?:%|[-0-9]*(?:\.[0-9]+)?[A-Z]*(.?))", re.DOTALL)
_SPECIAL_USES = frozenset(
    ("\\all", "\\archive", "\\drafts", "\\flagged", "\\important", "\\junk", "\\sent", "\\trash"))
_AGGREGATES = {"discrete": 0, "linear": 3, "exponential": 3}


def check_values(scope: Scope) -> Iterator[str]:
    """Settings of one scope, those that it sets itself."""
    own = {key: written.text for key, written in scope.node.settings.items() if not written.source}
    for key in own.keys() & _WORDS.keys():
        yield from _unknown_words(key, own[key])
    for key in _NOT_EMPTY:
        if own.get(key) == "":
            yield f"{key} must not be empty"
    for key in _NOT_ZERO:
        if key in own and not scope.node.settings[key].value:
            yield f"{key} must not be 0"
    if "mail_attachment_hash" in own:
        yield from _check_hash(own["mail_attachment_hash"])
    if "pop3_uidl_format" in own:
        yield from _check_uidl(own["pop3_uidl_format"])
    yield from _check_limits(scope)
    namespaces = {_in(section, "prefix"): section for section in scope.node.children.get("namespace", {}).values()}
    for section in scope.node.children.get("namespace", {}).values():
        yield from _check_namespace(section, namespaces)


def _value(scope: Scope, key: str) -> object:
    """The value in force."""
    written = scope.find(key)
    return ROOT.settings[key].value if written is None else written.value


def _in(section: Node, key: str) -> str:
    return section.settings[key].text if key in section.settings else ""


def _unknown_words(key: str, text: str) -> Iterator[str]:
    what, known = _WORDS[key]
    for word in text.replace(",", " ").split():
        lower = word.lower()
        if lower.startswith("throttle:") and "throttle:" in known:
            if not _THROTTLE.match(word):
                yield f"{key}: Invalid throttle settings"
        elif lower not in known and not any(lower.startswith(name) for name in known if name[-1] in "=:"):
            yield f"{key}: Unknown {what}: {word}"


def _check_limits(scope: Scope) -> Iterator[str]:
    keys = scope.node.settings.keys()
    for kind in ("uid", "gid"):
        first, last = f"first_valid_{kind}", f"last_valid_{kind}"
        low, high = _value(scope, first), _value(scope, last)
        if keys & {first, last} and isinstance(low, int) and isinstance(high, int) and low > high > 0:
            yield f"{first} can't be larger than {last}"
    size = _value(scope, "mail_cache_max_size")
    if "mail_cache_max_size" in keys and isinstance(size, int) and size > _CACHE_MAX:
        yield "mail_cache_max_size can't be over 1 GB"
    percentage = _value(scope, "mail_cache_purge_delete_percentage")
    if "mail_cache_purge_delete_percentage" in keys and isinstance(percentage, int) and percentage > 100:
        yield "mail_cache_purge_delete_percentage can't be over 100"
    if keys & {"mail_nfs_index", "mmap_disable", "mail_fsync"} and _value(scope, "mail_nfs_index") is True:
        if _value(scope, "mmap_disable") is not True:
            yield "mail_nfs_index=yes requires mmap_disable=yes"
        elif _value(scope, "mail_fsync") != "always":
            yield "mail_nfs_index=yes requires mail_fsync=always"
    if "pop3_delete_type" in keys and _value(scope, "pop3_delete_type") == "flag" \
            and not _value(scope, "pop3_deleted_flag"):
        yield "pop3_delete_type=flag, but pop3_deleted_flag not set"


def _check_hash(text: str) -> Iterator[str]:
    """mail_attachment_hash: part of a file's name, whose parts are joined by `-`."""
    for sign in "/-":
        if sign in text:
            yield f"mail_attachment_hash setting must not contain '{sign}' characters"
            return
    failure = _hash_error(text)
    if failure:
        yield f"Invalid mail_attachment_hash setting: {failure}"


def _hash_error(text: str) -> str:
    for part in text.split("%")[1:]:
        inner, brace, _ = part[1:].partition("}")
        name, colon, bits = inner.partition(":")
        if not part.startswith("{"):
            return "No '{' after '%'"
        if not brace:
            return "Missing '}'"
        if name not in _HASHES:
            return f"Unknown hash method: {name}"
        if colon and not (bits.isascii() and bits.isdigit() and 0 < int(bits[:9]) <= _HASHES[name]):
            return f"Invalid :bits number: {bits}"
        if colon and int(bits) % 8:
            return f"Currently :bits must be divisible by 8: {bits}"
    return ""


def _check_uidl(text: str) -> Iterator[str]:
    names = [found[1] for found in _UIDL.finditer(text) if found[1] is not None and found.end() <= len(text)]
    unknown = [name for name in names if name not in tuple("uvmfg") and not (name == "" and text.endswith("%"))]
    if unknown:
        yield f"Unknown pop3_uidl_format variable: %{unknown[0]}"
    elif not names:
        yield "pop3_uidl_format setting doesn't contain any %% variables."


def _check_namespace(section: Node, by_prefix: dict[str, Node]) -> Iterator[str]:
    prefix, alias = _in(section, "prefix"), _in(section, "alias_for")
    if len(_in(section, "separator")) > 1:
        yield f"Namespace '{prefix}': Hierarchy separator must be only one character long"
    if "alias_for" in section.settings:
        target = by_prefix.get(alias)
        if target is None:
            yield f"Namespace '{prefix}': alias_for points to unknown namespace: {alias}"
        elif "alias_for" in target.settings:
            yield f"Namespace '{prefix}': alias_for chaining isn't allowed: {alias} -> {_in(target, 'alias_for')}"
    for name, mailbox in section.children.get("mailbox", {}).items():
        for word in _in(mailbox, "special_use").split():
            if word.lower() not in _SPECIAL_USES:
                yield f"mailbox {_in(mailbox, 'name') or name}: unknown special_use: {word}"


def check_stats(top: Node) -> Iterator[str]:
    """Metrics and event exporters."""
    exporters = top.children.get("event_exporter", {})
    for name, node in exporters.items():
        if not name:
            yield "Exporter name can't be empty"
        yield from _check_exporter(node)
    for name, node in top.children.get("metric", {}).items():
        label = _in(node, "metric_name") or name
        if not label:
            yield "Metric name can't be empty"
        if not _in(node, "filter"):
            yield f"metric {label} {{ filter }} is empty - will not match anything"
        elif syntax_error(_in(node, "filter")):
            yield syntax_error(_in(node, "filter"))
        exporter = _in(node, "exporter")
        if exporter and exporters and exporter not in exporters:
            yield f"metric {label} refers to non-existent exporter '{exporter}'"
        for word in _in(node, "group_by").split():
            yield from _check_group(word)


def _check_exporter(node: Node) -> Iterator[str]:
    form, arguments, transport = _in(node, "format"), _in(node, "format_args").split(), _in(node, "transport")
    if not form:
        yield "Exporter format name can't be empty"
    elif form not in ("none", "json", "tab-text"):
        yield f"Unknown exporter format '{form}'"
    else:
        unknown = [word for word in arguments if word not in ("time-rfc3339", "time-unix")]
        if unknown:
            yield f"Unknown exporter format arg: {unknown[0]}"
        elif form != "none" and not arguments:
            yield f"{form} exporter format requires a time-* argument"
    if not transport:
        yield "Exporter transport name can't be empty"
    elif transport not in ("drop", "log", "http-post"):
        yield f"Unknown transport type '{transport}'"


def _check_group(word: str) -> Iterator[str]:
    """One member of a metric's group_by: field[:function[:number...]]."""
    field, colon, rest = word.partition(":")
    if not colon:
        return
    function, _, text = rest.partition(":")
    numbers = text.split(":") if text else []
    label = f"group_by '{function}' aggregate function"
    if function not in _AGGREGATES:
        yield f"unknown aggregation function '{function}' on field '{field}'"
    elif function == "discrete":
        if numbers:
            yield f"{label} does not take any args"
    elif len(numbers) != _AGGREGATES[function] or not all(re.match(r"-?[0-9]{1,18}\Z", one) for one in numbers):
        yield f"{label} takes 3 int args"
    else:
        yield from _check_range(function, label, [int(one) for one in numbers])


def _check_range(function: str, label: str, numbers: list[int]) -> Iterator[str]:
    low, high, step = numbers
    if min(numbers) < 0:
        yield f"{label} arguments must be >= 0"
    elif low >= high:
        yield f"{label} min must be < max ({low} must be < {high})"
    elif function == "exponential" and step not in (2, 10):
        yield f"{label} base must be one of: 2, 10 (base={step})"
    elif function == "linear" and low + step > high:
        yield f"{label} min+step must be <= max ({low + step} must be <= {high})"
