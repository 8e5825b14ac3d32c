"""TLS contexts from PEM texts.  Built once, before the workers are forked: every worker then shares the ticket keys,
so that a session resumes in any of them, and the memory.

In: texts and switches.  Out: `ssl.SSLContext`.  It must not know the configuration language.
"""
from __future__ import annotations

import base64
import binascii
import os
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mailproxy.errors import MailproxyError
from mailproxy.net import openssl


class BadTls(MailproxyError):
    """A certificate, key or TLS option that cannot be used; `setting` names it."""

    def __init__(self, setting: str, text: str) -> None:
        super().__init__(text)
        self.setting = setting


@dataclass(frozen=True, slots=True)
class Options:
    """The switches that server and client contexts share; names and defaults are the ssl_* settings'."""

    min_protocol: str = "TLSv1.2"
    cipher_list: str = ""
    cipher_suites: str = ""
    curve_list: str = ""
    options: tuple[str, ...] = ()
    prefer_server_ciphers: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, PEM."""

    cert: str
    key: str = field(repr=False)
    password: str = field(default="", repr=False)


_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1, "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3, "ANY": ssl.TLSVersion.MINIMUM_SUPPORTED,
    "LATEST": ssl.TLSVersion.MAXIMUM_SUPPORTED, "SSLv3": ssl.TLSVersion.SSLv3,
}


class ServerSocket(ssl.SSLSocket):
    """A client's TLS connection that remembers which name the client asked for (SNI)."""

    asked_name: str = ""


def server_name(sock: ssl.SSLSocket) -> str:
    """The name that the client asked for; "" if it did not."""
    return sock.asked_name if isinstance(sock, ServerSocket) else ""


def subject_field(name: str) -> str:
    """A field's name (short, long or as numbers) as `subject_name` wants it; BadTls if there is no such field."""
    try:
        # the table that getpeercert() takes its names from; in it, what has no long name is called by its numbers
        _, _, long, numbers = ssl._ASN1Object.fromname(name)
    except ValueError:
        raise BadTls("ssl_cert_username_field", f"Invalid cert_username_field: {name}") from None
    return long or numbers


def subject_name(sock: ssl.SSLSocket, field: str) -> str | None:
    """That field of the subject of the peer's valid certificate; "" if it has none, None without a certificate."""
    cert = sock.getpeercert()
    if not cert:
        return None
    for key, value in _subject(cert):
        if key == field:
            return "" if "\0" in value else value
    return ""


def subject_line(sock: ssl.SSLSocket) -> str:
    """The whole subject as OpenSSL writes it: /O=example/CN=joe."""
    return "".join(f"/{_short(key)}={value}" for key, value in _subject(sock.getpeercert() or {}))


def _subject(cert: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    parts: Iterable[Iterable[tuple[str, str]]] = cert.get("subject", ())  # type: ignore[assignment]
    for part in parts:
        yield from part


def _short(name: str) -> str:
    try:
        return ssl._ASN1Object.fromname(name).shortname
    except ValueError:                  # one that OpenSSL knows by its numbers only
        return name


def choose_by_name(context: ssl.SSLContext, find: Callable[[str], ssl.SSLContext | None]) -> None:
    """Let `find` pick another context during the handshake; one context per certificate, made beforehand
    (CVE-2017-15130: nothing is built per connection)."""
    def asked(sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name and isinstance(sock, ServerSocket):
            sock.asked_name = name
            other = find(name)
            if other is not None:
                sock.context = other
    context.sslsocket_class = ServerSocket
    context.sni_callback = asked


def server_context(options: Options, pairs: Sequence[Pair], *, client_ca: str = "", verify_client: bool = False,
                   require_crl: bool = False, dh: str = "") -> ssl.SSLContext:
    """For listeners and STARTTLS.  `pairs`: the certificate and perhaps one of another key type; `dh`: parameters for
    key exchanges without curves, PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply(context, options)
    # one ticket a handshake: each resumption brings the next one, and a second costs a tenth of a full handshake
    context.num_tickets = 1
    # the log tells clients that say goodbye from those that do not
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if dh:
        with _memory_file(dh) as path:
            try:
                context.load_dh_params(path)
            except (ssl.SSLError, OSError) as error:
                raise BadTls("ssl_dh", f"Can't load DH parameters (ssl_dh setting): {_why(error)}") from None
    load_pairs(context, pairs)
    if verify_client:
        _load_ca(context, client_ca, "ssl_ca")
        # a client without a certificate may still log in by password; a bad one ends the handshake
        context.verify_mode = ssl.CERT_OPTIONAL
        if require_crl:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


def load_pairs(context: ssl.SSLContext, pairs: Sequence[Pair]) -> None:
    """Also to put newer pairs of the same kinds into a context that is in use: tickets stay good, handshakes that
    have begun end with the old pair."""
    for number, pair in enumerate(pairs):
        _load_pair(context, pair, "ssl_alt_" if number else "ssl_")


_FIRST_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
#: How each kind of public key is named inside a certificate (DER of its object identifier).
_KINDS = (bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06032b6570"),
          bytes.fromhex("06032b6571"))


def key_kinds(pairs: Sequence[Pair]) -> tuple[bytes, ...] | None:
    """One mark for the kind of each key; a context keeps one pair of each kind.  None: not certain."""
    kinds = []
    for pair in pairs:
        match = _FIRST_CERTIFICATE.search(pair.cert)
        try:
            der = base64.b64decode(match[1]) if match else b""
        except (binascii.Error, ValueError):
            return None
        found = [kind for kind in _KINDS if kind in der]
        if len(found) != 1:
            return None
        kinds += found
    return tuple(kinds)


def client_context(options: Options, *, verify: bool, ca: str = "", ca_file: str = "", ca_dir: str = "",
                   require_crl: bool = False, pair: Pair | None = None) -> ssl.SSLContext:
    """Towards backends.  Without `verify` any certificate is accepted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _apply(context, options)
    # a backend that closes without close_notify is not an attack on a protocol that frames its messages itself
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        if ca:
            _load_ca(context, ca, "ssl_ca")
            if require_crl:
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        if ca_file:
            _locations(context, "ssl_client_ca_file", cafile=ca_file)
        if ca_dir:
            # read all of it now: a chrooted worker cannot look a hash up later
            for name in sorted(os.listdir(ca_dir)) if os.path.isdir(ca_dir) else ():
                path = os.path.join(ca_dir, name)
                if os.path.isfile(path):
                    _locations(context, "ssl_client_ca_dir", cafile=path)
    if pair is not None:
        _load_pair(context, pair, "ssl_client_")
    return context


def _apply(context: ssl.SSLContext, options: Options) -> None:
    version = _VERSIONS.get(options.min_protocol)
    if version is None:
        raise BadTls("ssl_min_protocol", f"Unknown ssl_min_protocol setting '{options.min_protocol}'")
    context.minimum_version = version
    if options.cipher_list:
        try:
            context.set_ciphers(options.cipher_list)
        except ssl.SSLError as error:
            raise BadTls("ssl_cipher_list",
                         f"Can't set cipher list to '{options.cipher_list}': {_why(error)}") from error
    for word in options.options:
        if word == "no_ticket":
            context.options |= ssl.OP_NO_TICKET
        elif word == "compression":
            context.options &= ~ssl.OP_NO_COMPRESSION
        elif word != "no_compression":
            raise BadTls("ssl_options", f"ssl_options: unknown flag: '{word}'")
    if options.cipher_suites != openssl.in_force().suites:
        raise BadTls("ssl_cipher_suites", f"Can't set ciphersuites to '{options.cipher_suites}': {_ONCE}")
    if options.cipher_suites:
        suites = [row["name"] for row in context.get_ciphers() if row["protocol"] == "TLSv1.3"]
        if suites != options.cipher_suites.split(":"):
            raise BadTls("ssl_cipher_suites", f"Can't set ciphersuites to '{options.cipher_suites}'")
    _set_curves(context, options.curve_list)
    if options.prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


#: Usual names of curves that OpenSSL's table of names does not have.
_CURVES = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}


#: Groups for key exchanges that OpenSSL knows and that are no curves in its eyes.
_NO_CURVES = frozenset({"x25519", "x448", "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"})
#: Python's ssl has no calls for these: see net.openssl.
_ONCE = "it must be the same for all connections, and a change needs a restart"


def _set_curves(context: ssl.SSLContext, wanted: str) -> None:
    """The ssl module sets one curve, and not any; everything else must have been given to OpenSSL before."""
    curves = wanted.split(":") if wanted else []
    for curve in curves:
        if curve.lower() not in _NO_CURVES and not _set_curve(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), curve):
            raise BadTls("ssl_curve_list", f"Failed to set curve list to '{wanted}'")
    if wanted != openssl.in_force().curves and not (len(curves) == 1 and _set_curve(context, wanted)):
        raise BadTls("ssl_curve_list", f"Failed to set curve list to '{wanted}': {_ONCE}")


def _set_curve(context: ssl.SSLContext, curve: str) -> bool:
    try:
        context.set_ecdh_curve(_CURVES.get(curve, curve))
    except (ValueError, ssl.SSLError):
        return False
    return True


def _load_pair(context: ssl.SSLContext, pair: Pair, prefix: str) -> None:
    if not pair.cert.strip():
        raise BadTls(prefix + "cert", f"Can't load SSL certificate ({prefix}cert setting): The certificate is empty")
    if "-----BEGIN " not in pair.cert:
        raise BadTls(prefix + "cert",
                     f"Can't load SSL certificate ({prefix}cert setting): There is no valid PEM certificate.")
    try:
        # a callback, so that an encrypted key without a password is an error and never a prompt on the terminal
        with _memory_file(pair.cert) as cert, _memory_file(pair.key) as key:
            context.load_cert_chain(cert, key, lambda: pair.password)
    except (ssl.SSLError, OSError, ValueError) as error:
        words = _why(error)
        if words == "KEY_VALUES_MISMATCH":
            words = f"Key is for a different cert than {prefix}cert"
        raise BadTls(prefix + "key", f"Can't load SSL private key ({prefix}key setting): {words}") from None


#: Where a process without /proc (in a chroot) has its files for a moment.
WORK = "/tls-work"
_MEMORY = "/proc/self/fd"


@contextmanager
def _memory_file(text: str) -> Iterator[str]:
    """A path to the text, while it is needed: the ssl module loads from paths only."""
    in_memory = os.path.exists(_MEMORY)
    if in_memory:
        fd = os.memfd_create("pem", os.MFD_CLOEXEC)
        path = f"{_MEMORY}/{fd}"
    else:
        path = f"{WORK}/{os.urandom(16).hex()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data):]
        yield path
    finally:
        os.close(fd)
        if not in_memory:
            os.unlink(path)


def _load_ca(context: ssl.SSLContext, text: str, setting: str) -> None:
    """CAs and CRLs in one PEM text: only loading from a file reads both kinds."""
    with _memory_file(text) as path:
        _locations(context, setting, cafile=path)


def _locations(context: ssl.SSLContext, setting: str, *, cafile: str) -> None:
    try:
        context.load_verify_locations(cafile=cafile)
    except (ssl.SSLError, OSError) as error:
        raise BadTls(setting, f"{setting}: Can't load CA certificates: {_why(error)}") from error


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
