"""Versions looked up, moved and ruled on: the parts of register, approve and rollback."""
