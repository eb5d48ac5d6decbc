"""The serving app: tasks.core and the store, never Prefect."""
