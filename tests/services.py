"""Session fixtures: real services on loopback."""
