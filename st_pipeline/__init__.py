"""Continual spatio-temporal forecasting for sensor networks that grow."""

import os

__version__ = "0.1.0"

# Threads of torch's OpenMP that wait spin for milliseconds by default: on a machine where something else runs, small
# networks then train tens of times slower. Read once, when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
