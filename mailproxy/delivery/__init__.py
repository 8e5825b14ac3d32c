"""ROLE lmtp: takes messages over LMTP and passes them to the servers of their recipients.

    worker        the process: listeners, limits, signals
    setup         what all clients share, made in the master
    connection    one client: socket, TLS, commands in their order
    transaction   one message: recipients, backends, the answers
    lookup        asks the auth server about a recipient
    route         what its answer means
    outgoing      one backend in one transaction
    spool         the message, in memory or in a file
    received      the header that is put before it
"""
