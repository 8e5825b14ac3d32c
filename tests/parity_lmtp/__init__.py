"""The parity harness for LMTP: beside tests.parity, whose language, peers and certificates it uses.

One scripted client, up to three scripted backends, any number of recipients; what client, backends and log received
must be equal under Dovecot and under mailproxy.  `python -m tests.parity_lmtp --list | --only NAME | --dump NAME`.
Deliberate differences work as there: `differs` names a row of docs/differences.md.
"""
