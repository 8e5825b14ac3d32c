"""The parity harness: one configuration, one scripted client and one scripted backend, run under Dovecot and under
mailproxy; what the client, the backend and the log received must be equal.

Read in this order: scenario (what a case is) · script (its little language) · conversation (who executes it) ·
backend · servers · certs · normalise · harness (all together) · cases/ (the data).
"""
