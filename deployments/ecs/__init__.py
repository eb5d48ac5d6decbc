"""Running the flows as tasks of AWS ECS."""
