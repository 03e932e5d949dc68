"""Names of programs and of their processes, as supervisord has them: of several, `smtp_00`, `smtp_01` ... of `smtp`."""

import re
from collections.abc import Iterable
from typing import Final

_COPY: Final = re.compile(r"_\d+$")


def program_of(process: str) -> str:
    """The program that a process runs."""
    return _COPY.sub("", process)


def is_copy(process: str) -> bool:
    """Whether it is one of several processes of its program."""
    return program_of(process) != process


def is_first(process: str) -> bool:
    """Whether it is the only process of its program, or the one that does what one only should do."""
    return not is_copy(process) or int(process.rpartition("_")[2]) == 0


def supervisor_name(process: str) -> str:
    """What supervisord knows it by: with its group, where that has another name."""
    return f"{program_of(process)}:{process}" if is_copy(process) else process


def processes_of(program: str, processes: Iterable[str]) -> list[str]:
    """Of these, those that run the program, in order; a process stands for itself."""
    return sorted(each for each in processes if program in (each, program_of(each), supervisor_name(each)))
