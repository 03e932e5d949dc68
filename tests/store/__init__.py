"""Tests of the bytes at rest: real files, and writers that are killed."""
