"""The store: what must outlive a process, in SQLite by default and Postgres for real."""
