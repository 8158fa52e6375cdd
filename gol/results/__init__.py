"""Finished runs as tables, figures and MLflow runs."""
