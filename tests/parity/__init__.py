"""The parity harness: one configuration, one scripted client and one scripted backend, run under Dovecot and under
mailproxy; what the client, the backend and the log received must be equal.

`python -m tests.parity --list | --only NAME | --dump NAME | --side dovecot` shows and plays single scenarios.

A deliberate difference: the scenario says `differs="name of a row in docs/differences.md"` and what mailproxy does
instead, as `substitute` (replacements in Dovecot's transcript) or as `expected_client`, `_backend`, `_log`.

Read in this order: scenario (what a case is) · script (its little language) · conversation (who executes it) ·
backend · servers · certs · normalise · harness (all together) · cases/ (the data).
"""
