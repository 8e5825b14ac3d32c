"""The login role: accepts clients, authenticates them through the auth server, logs in to their backend, relays.

worker      the process: listeners, limits, retirement
setup       what all sessions of a worker share, made before the fork
connection  one client's sockets and timers: the ports of a session
session     the socket-free core: one state, driven by the client, the auth server and the backend
client      what is known of a client: addresses, session id, what a trusted proxy forwards
proxying    attempts at a backend, their failures, the retries between them
proxied     a session after login
target      passdb fields -> where and how to proxy
backends    what this process knows of each backend address
authclient  the client side of the auth protocol
logline     the words of login log lines
"""
