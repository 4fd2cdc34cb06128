"""Continual spatio-temporal forecasting for sensor networks that grow."""

__version__ = "0.1.0"
