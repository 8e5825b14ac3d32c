"""Settings of TLS, towards clients and towards backends."""
# ruff: noqa: RUF009 - the calls declare dataclass fields
from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import choice, secret, text, words, yes_no
from mailproxy.secret import Secret


@dataclass(frozen=True, slots=True)
class SslSettings:
    ssl: str = choice("yes", "yes", "no", "required")
    ssl_cert: str = text()
    ssl_key: Secret = secret()
    ssl_key_password: Secret = secret()
    ssl_alt_cert: str = text()
    ssl_alt_key: Secret = secret()
    ssl_ca: str = text()
    ssl_verify_client_cert: bool = yes_no("no")
    ssl_require_crl: bool = yes_no("yes")
    ssl_cert_username_field: str = text("commonName")
    ssl_client_ca_file: str = text()
    ssl_client_ca_dir: str = text()
    ssl_client_cert: str = text()
    ssl_client_key: Secret = secret()
    ssl_client_require_valid_cert: bool = yes_no("yes")
    ssl_min_protocol: str = text("TLSv1.2")
    ssl_cipher_list: str = text(
        "ALL:!kRSA:!SRP:!kDHd:!DSS:!aNULL:!eNULL:!EXPORT:!DES:!3DES:!MD5:!PSK:!RC4:!ADH:!LOW@STRENGTH")
    ssl_cipher_suites: str = text()
    ssl_curve_list: str = text()
    ssl_dh: str = text()
    ssl_prefer_server_ciphers: bool = yes_no("no")
    ssl_options: tuple[str, ...] = words()
    ssl_crypto_device: str = text()
