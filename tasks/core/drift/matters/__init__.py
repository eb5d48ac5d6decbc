"""Whether drift matters: importance, performance without labels, harm."""
