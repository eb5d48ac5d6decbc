"""What should happen now, and when labels cannot be believed."""
