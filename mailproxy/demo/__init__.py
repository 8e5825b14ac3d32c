"""`python -m mailproxy.demo`: a proxy with two backends, a few users and a certificate, all on this machine.

In: nothing but free ports.  Out: running processes, a directory with everything they use, and the commands to try.
It knows the proxy only from outside (its configuration file and its ports), so that any server that reads the same
configuration can stand in its place (`--server`).
"""
