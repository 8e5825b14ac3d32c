"""Key-value stores: what a dict passdb or userdb, and key files of tokens, are read from.

table (uri -> Store) · store (what a Store is) · redis, fs, file, proxy (the stores) · lookup (keys of a driver's
settings file -> fields).  Read only.  Blocking: for auth-workers.
"""
