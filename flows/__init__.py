"""Flows: the order of work and nothing else."""
