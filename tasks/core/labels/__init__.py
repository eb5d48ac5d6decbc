"""Labels as they come: how many, how late, and what late ones change."""
