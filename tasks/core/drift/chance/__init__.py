"""What chance alone does: how windows differ anyway, and the level that keeps false alarms in budget."""
