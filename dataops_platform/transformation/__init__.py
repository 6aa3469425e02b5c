"""dbt without Dagster: the project's models, building them in process, and publishing what they made."""
