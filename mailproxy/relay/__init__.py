"""After login: bytes only.  Two directions with back-pressure; it does not know what it carries."""
