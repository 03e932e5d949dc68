"""Tests of what the programs do with a message."""
