"""ManageSieve (RFC 5804) before login: `wire` (words on the line), `frontend` (we are the server), `backend` (we are
the client)."""
