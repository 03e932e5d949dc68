"""Measurements, runnable by anyone: bench/run."""
