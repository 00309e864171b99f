"""Roboflow as a detector: hosted, dedicated or self-hosted, over our own inference path. Knows no Airflow; light at import."""
