"""`mailproxy check`: everything about a configuration that is worth a word, before anybody depends on it."""
