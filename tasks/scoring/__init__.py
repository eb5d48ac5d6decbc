"""What scoring does with its answers besides logging them."""
