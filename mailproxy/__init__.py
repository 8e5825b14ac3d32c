"""mailproxy: a mail proxy that reads dovecot.conf and behaves as Dovecot 2.3's login services do.

The map.  Read the packages in this order; each stands on those before it:

    errors, secret    what is raised across packages; texts that must not be seen
    config            the files -> frozen settings
    log               one line per event, through the log process
    ipc               contract (master <-> child), authwire (the lines of all auth sockets)
    net               loop (epoll and timers), transports, TLS, connecting
    proto             spec and events, and a folder for each protocol with two machines without a socket: frontend (the
                      client's side), backend (the server's side); commands and lines are what they have in common
    variables         %variables: templates compiled once, expanded per request
    sasl              the mechanisms, both halves
    relay             after login: two byte pumps that do not know what they carry
    login             ROLES imap-login, pop3-login and so on: accept -> dialogue -> auth -> backend -> relay
    delivery          ROLE lmtp: a lookup for each recipient, several backends a message, an answer for each recipient
    auth              ROLES auth and auth-worker: passdb chain, cache, password schemes, drivers
    anvil             ROLE anvil: connections by user, penalties for failed logins; nobody waits for it
    master            ROLE mailproxy itself: listeners, forks, signals, status; it speaks no protocol
    admin             mpadm, the command line of the administrator
    check             `mailproxy check`: all that is wrong with a configuration and what it names
    demo              `make run`: a proxy, two backends and a few users on one machine

A ROLE is what shows in `ps`; everything else is a library that does not know which process it runs in.

The two flows:

    data      client  <-> net -> proto.X.frontend -event-> login.session -> login.authclient -ipc.authwire-> auth
              backend <-> net -> proto.X.backend  -event-> login.session -(leftover bytes of both sides)-> relay
    control   master.py -> cli -> master.run -> master.service (policy) -> fork -> main() of the role -> its loop
              child -ipc.contract status report-> master -> master.service

The layers are kept by tests/unit/test_layers.py.
"""

__version__ = "0.1.0"
