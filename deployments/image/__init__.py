"""What a container of ours runs first, and how it is asked whether it is well."""
