"""Settings of administration, replication, director and statistics.

Accepted and type-checked so that files of a full installation load; mailproxy itself does not read them.
Rows: name, kind, default[, words].
"""
from __future__ import annotations

from mailproxy.config.schema.define import table
from mailproxy.config.units import ENUM, PORT, SIZE, TEXT, TIME, UINT

ADMIN = table((
    ("auth_socket_path", TEXT, "auth-userdb"),
    ("dict_db_config", TEXT, ""),
    ("director_flush_socket", TEXT, ""),
    ("director_mail_servers", TEXT, ""),
    ("director_max_parallel_kicks", UINT, "100"),
    ("director_max_parallel_moves", UINT, "100"),
    ("director_output_buffer_size", SIZE, "10 M"),
    ("director_ping_idle_timeout", TIME, "30 secs"),
    ("director_ping_max_timeout", TIME, "1 mins"),
    ("director_servers", TEXT, ""),
    ("director_user_expire", TIME, "15 mins"),
    ("director_user_kick_delay", TIME, "2 secs"),
    ("director_username_hash", TEXT, "%Lu"),
    ("doveadm_allowed_commands", TEXT, ""),
    ("doveadm_api_key", TEXT, ""),
    ("doveadm_http_rawlog_dir", TEXT, ""),
    ("doveadm_password", TEXT, ""),
    ("doveadm_port", PORT, "0"),
    ("doveadm_socket_path", TEXT, "doveadm-server"),
    ("doveadm_ssl", ENUM, "no", ("no", "ssl", "starttls")),
    ("doveadm_username", TEXT, "doveadm"),
    ("doveadm_worker_count", UINT, "0"),
    ("dsync_alt_char", TEXT, "_"),
    ("dsync_commit_msgs_interval", UINT, "100"),
    ("dsync_features", TEXT, ""),
    ("dsync_hashed_headers", TEXT, "Date Message-ID"),
    ("dsync_remote_cmd", TEXT, "ssh -l%{login} %{host} doveadm dsync-server -u%u -U"),
    ("old_stats_carbon_interval", TIME, "30 secs"),
    ("old_stats_carbon_name", TEXT, ""),
    ("old_stats_carbon_server", TEXT, ""),
    ("old_stats_command_min_time", TIME, "1 mins"),
    ("old_stats_domain_min_time", TIME, "12 hours"),
    ("old_stats_ip_min_time", TIME, "12 hours"),
    ("old_stats_memory_limit", SIZE, "16 M"),
    ("old_stats_session_min_time", TIME, "15 mins"),
    ("old_stats_user_min_time", TIME, "1 hours"),
    ("replication_dsync_parameters", TEXT, "-d -N -l 30 -U"),
    ("replication_full_sync_interval", TIME, "1 days"),
    ("replication_max_conns", UINT, "10"),
    ("replicator_host", TEXT, "replicator"),
    ("replicator_port", PORT, "0"),
    ("stats_http_rawlog_dir", TEXT, ""),
))
