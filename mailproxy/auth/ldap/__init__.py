"""Users in a directory: what the ldap passdb and userdb have in common.

settings (the file) · attributes (lists like `uid=user, mailHost=host`) · connection (the server).  Blocking: for
auth-workers.  Needs python-ldap, which is imported when a worker first connects.
"""
