"""TLS contexts from PEM texts.  Built once, before the workers are forked: every worker then shares the ticket keys,
so that a session resumes in any of them, and the memory.

In: texts and switches.  Out: `ssl.SSLContext`.  It must not know the configuration language.
"""
from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mailproxy.errors import MailproxyError


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
    curve_list: str = ""
    options: tuple[str, ...] = ()
    prefer_server_ciphers: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, PEM."""

    cert: str
    key: str
    password: str = ""


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


#: Usual short names of a subject's fields -> how the ssl module spells them.
_FIELDS = {"CN": "commonName", "UID": "userId", "O": "organizationName", "OU": "organizationalUnitName",
           "C": "countryName", "L": "localityName", "ST": "stateOrProvinceName", "SN": "surname", "GN": "givenName",
           "DC": "domainComponent", "email": "emailAddress"}


def subject_field(name: str) -> str:
    """A field's name as `subject_name` wants it."""
    return _FIELDS.get(name, name)


def subject_name(sock: ssl.SSLSocket, field: str) -> str | None:
    """That field of the subject of the peer's valid certificate; "" if it has none, None without a certificate."""
    cert = sock.getpeercert()
    if not cert:
        return None
    subject: Iterable[Iterable[tuple[str, str]]] = cert.get("subject", ())  # type: ignore[assignment]
    for part in subject:
        for key, value in part:
            if key == field:
                return "" if "\0" in value else value
    return ""


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


def server_context(options: Options, pairs: list[Pair], *, client_ca: str = "", verify_client: bool = False,
                   require_crl: bool = False) -> ssl.SSLContext:
    """For listeners and STARTTLS.  `pairs`: the certificate and perhaps one of another key type."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply(context, options)
    # one ticket a handshake: each resumption brings the next one, and a second costs a tenth of a full handshake
    context.num_tickets = 1
    # the log tells clients that say goodbye from those that do not
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    for number, pair in enumerate(pairs):
        _load_pair(context, pair, "ssl_alt_" if number else "ssl_")
    if verify_client:
        _load_ca(context, client_ca, "ssl_ca")
        # a client without a certificate may still log in by password; a bad one ends the handshake
        context.verify_mode = ssl.CERT_OPTIONAL
        if require_crl:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


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
            raise BadTls("ssl_cipher_list", f"Can't set cipher list to '{options.cipher_list}': "
                                            f"{getattr(error, 'reason', None) or error}") from error
    for word in options.options:
        if word == "no_ticket":
            context.options |= ssl.OP_NO_TICKET
        elif word == "compression":
            context.options &= ~ssl.OP_NO_COMPRESSION
        elif word != "no_compression":
            raise BadTls("ssl_options", f"ssl_options: unknown flag: '{word}'")
    curves = options.curve_list.split(":") if options.curve_list else []
    if len(curves) == 1:
        try:
            context.set_ecdh_curve({"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}
                                   .get(curves[0], curves[0]))
        except (ValueError, ssl.SSLError) as error:
            raise BadTls("ssl_curve_list", f"Failed to set curve list to '{options.curve_list}'") from error
    if options.prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _load_pair(context: ssl.SSLContext, pair: Pair, prefix: str) -> None:
    """The ssl module loads from paths only: an anonymous file in memory gives it one and leaves nothing behind."""
    if not pair.cert.strip():
        raise BadTls(prefix + "cert", f"Can't load SSL certificate ({prefix}cert setting): The certificate is empty")
    if "-----BEGIN " not in pair.cert:
        raise BadTls(prefix + "cert",
                     f"Can't load SSL certificate ({prefix}cert setting): There is no valid PEM certificate.")
    files: list[int] = []
    try:
        for text in (pair.cert, pair.key):
            files.append(_memory_file(text))
        cert, key = files
        # a callback, so that an encrypted key without a password is an error and never a prompt on the terminal
        context.load_cert_chain(f"/proc/self/fd/{cert}", f"/proc/self/fd/{key}", lambda: pair.password)
    except (ssl.SSLError, OSError, ValueError) as error:
        words = getattr(error, "reason", None) or str(error)
        if words == "KEY_VALUES_MISMATCH":
            words = f"Key is for a different cert than {prefix}cert"
        raise BadTls(prefix + "key", f"Can't load SSL private key ({prefix}key setting): {words}") from None
    finally:
        for fd in files:
            os.close(fd)


def _memory_file(text: str) -> int:
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(fd, data):]
    return fd


def _load_ca(context: ssl.SSLContext, text: str, setting: str) -> None:
    """CAs and CRLs in one PEM text: only loading from a file reads both kinds."""
    fd = _memory_file(text)
    try:
        _locations(context, setting, cafile=f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _locations(context: ssl.SSLContext, setting: str, *, cafile: str) -> None:
    try:
        context.load_verify_locations(cafile=cafile)
    except (ssl.SSLError, OSError) as error:
        raise BadTls(setting, f"{setting}: Can't load CA certificates: "
                              f"{getattr(error, 'reason', None) or error.strerror or error}") from error
