"""SQL databases: connections, several hosts, and the settings file of the passdb and userdb drivers `sql`."""
