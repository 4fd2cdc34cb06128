"""Dagster resources and IO managers: they own paths, devices and formats."""
