"""The same auth configuration under a real Dovecot and under mailproxy, the same requests, the same answers.

    case        a Case: passdb and userdb sections, settings, files, and what is asked
    cases       the cases, one topic a file; each is a `protocol` block of one big configuration
    harness     a group of cases on both sides, at the same time
    python -m tests.differential_auth [GROUP ...] [--dump CASE]
"""
