"""Pure rules: no Prefect, MLflow, network, disk or environment."""
