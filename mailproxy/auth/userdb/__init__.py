"""User database drivers: one a file, all behind the small protocol of `driver`."""
