"""POP3 (RFC 1939, 2449, 5034) before login: `frontend` (we are the server), `backend` (we are the client)."""
