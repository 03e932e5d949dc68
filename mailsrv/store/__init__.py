"""Bytes at rest: the only code that touches `var/`."""
