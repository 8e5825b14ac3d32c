"""Roles auth and auth-worker: who is this user, and what shall be done with him.

Reading order: setup (what the configuration says) · server, client (sockets) · request, username · chain (which
database is asked, what the answer means) · fields · passdb/ (drivers; ldap/, dicts/, libpam, checkpassword serve
them) · schemes/ (password hashes) · cache · workers, workerwire, worker_main (blocking databases) · reply, proxying
(what the client gets) · failures · journal.
"""
