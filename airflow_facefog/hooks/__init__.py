"""Airflow connections → what the library needs. Nothing heavy is imported at module level."""
