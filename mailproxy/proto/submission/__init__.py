"""Message submission (RFC 6409) before login: `frontend` (we are the server), `backend` (we are the client); the words
are those of proto.smtp."""
