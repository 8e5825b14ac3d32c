"""LMTP (RFC 2033): `address` (mailboxes and paths), `frontend` (the client's side), `backend` (the server's side)."""
