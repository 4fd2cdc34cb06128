"""Dagster assets: arguments and metadata; the work is done by the library."""
