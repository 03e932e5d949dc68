"""A mistake in a file that people edit: which file, which line, what was expected there."""

from pathlib import Path


class Mistake(Exception):
    """`line` counts from 1; 0 is the file as a whole."""

    def __init__(self, path: Path, line: int, expected: str) -> None:
        super().__init__(f"{path}:{line}: {expected}" if line else f"{path}: {expected}")
        self.path = path
        self.line = line
        self.expected = expected
