"""IMAP4rev1 (RFC 3501) before login: `wire` (words on the line), `frontend` (we are the server), `backend` (we are
the client)."""
