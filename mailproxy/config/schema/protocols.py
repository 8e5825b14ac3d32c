"""Settings of the services behind login and of the protocols beside IMAP.

Accepted and type-checked so that files of a full installation load; mailproxy itself does not read them.
Rows: name, kind, default[, words].
"""
from __future__ import annotations

from mailproxy.config.schema.define import table
from mailproxy.config.units import BOOL, ENUM, PORT, SIZE, TEXT, TIME, TIME_MS, UINT

PROTOCOLS = table((
    ("deliver_log_format", TEXT, "msgid=%m: %$"),
    ("imap_client_workarounds", TEXT, ""),
    ("imap_fetch_failure", ENUM, "disconnect-immediately",
     ("disconnect-immediately", "disconnect-after", "no-after")),
    ("imap_hibernate_timeout", TIME, "0"),
    ("imap_idle_notify_interval", TIME, "2 mins"),
    ("imap_logout_format", TEXT,
     "in=%i out=%o deleted=%{deleted} expunged=%{expunged} trashed=%{trashed} hdr_count=%{fetch_hdr_c"
     "ount} hdr_bytes=%{fetch_hdr_bytes} body_count=%{fetch_body_count} body_bytes=%{fetch_body_bytes"
     "}"),
    ("imap_metadata", BOOL, "no"),
    ("imap_urlauth_host", TEXT, ""),
    ("imap_urlauth_logout_format", TEXT, "in=%i out=%o"),
    ("imap_urlauth_port", PORT, "143"),
    ("lda_mailbox_autocreate", BOOL, "no"),
    ("lda_mailbox_autosubscribe", BOOL, "no"),
    ("lda_original_recipient_header", TEXT, ""),
    ("lmtp_hdr_delivery_address", ENUM, "final", ("final", "none", "original")),
    ("lmtp_rcpt_check_quota", BOOL, "no"),
    ("lmtp_save_to_detail_mailbox", BOOL, "no"),
    ("lmtp_user_concurrency_limit", UINT, "0"),
    ("managesieve_client_workarounds", TEXT, ""),
    ("managesieve_logout_format", TEXT, "bytes=%i/%o"),
    ("managesieve_max_compile_errors", UINT, "5"),
    ("managesieve_max_line_length", SIZE, "64 k"),
    ("pop3_client_workarounds", TEXT, ""),
    ("pop3_delete_type", ENUM, "default", ("default", "expunge", "flag")),
    ("pop3_enable_last", BOOL, "no"),
    ("pop3_fast_size_lookups", BOOL, "no"),
    ("pop3_lock_session", BOOL, "no"),
    ("pop3_logout_format", TEXT, "top=%t/%p, retr=%r/%b, del=%d/%m, size=%s"),
    ("pop3_no_flag_updates", BOOL, "no"),
    ("pop3_reuse_xuidl", BOOL, "no"),
    ("pop3_save_uidl", BOOL, "no"),
    ("pop3_uidl_duplicates", ENUM, "allow", ("allow", "rename")),
    ("pop3_uidl_format", TEXT, "%08Xu%08Xv"),
    ("postmaster_address", TEXT, "postmaster@%{if;%d;ne;;%d;%{hostname}}"),
    ("quota_full_tempfail", BOOL, "no"),
    ("rejection_reason", TEXT, "Your message to <%t> was automatically rejected:%n%r"),
    ("rejection_subject", TEXT, "Rejected: %s"),
    ("sendmail_path", TEXT, "/usr/sbin/sendmail"),
    ("submission_host", TEXT, ""),
    ("submission_logout_format", TEXT, "in=%i out=%o"),
    ("submission_max_recipients", UINT, "0"),
    ("submission_relay_command_timeout", TIME_MS, "5 mins"),
    ("submission_relay_connect_timeout", TIME_MS, "30 secs"),
    ("submission_relay_host", TEXT, ""),
    ("submission_relay_master_user", TEXT, ""),
    ("submission_relay_max_idle_time", TIME, "29 mins"),
    ("submission_relay_password", TEXT, ""),
    ("submission_relay_port", PORT, "25"),
    ("submission_relay_rawlog_dir", TEXT, ""),
    ("submission_relay_ssl", ENUM, "no", ("no", "smtps", "starttls")),
    ("submission_relay_ssl_verify", BOOL, "yes"),
    ("submission_relay_trusted", BOOL, "no"),
    ("submission_relay_user", TEXT, ""),
    ("submission_ssl", ENUM, "no", ("no", "smtps", "submissions", "starttls")),
    ("submission_timeout", TIME, "30 secs"),
))
