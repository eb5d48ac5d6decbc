"""From spec to estimator: the pipeline, what it learns from, and the bundle it becomes."""
