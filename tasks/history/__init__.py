"""What happened: which version served when, why, made of what; questions answered from the store."""
