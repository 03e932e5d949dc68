"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz.smtp [--target NAME] [libFuzzer's flags and folders]`.

Any octets give a reply or a close, never an exception, and no message that differs from what the octets say. The seeds
are written to a temporary folder; a folder among the arguments takes what is found on the way.
"""

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

NAMES: Final = ("smtp", "address", "header", "pop3")
DICTIONARY: Final = Path(__file__).with_name("words.dict")
# Large enough for a message of several chunks, small enough for some thousand of them a second.
USUAL: Final = (f"-dict={DICTIONARY}", "-max_len=2048", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1")


def main() -> None:
    """Fuzz until libFuzzer ends, and end as it did."""
    parser = argparse.ArgumentParser(description="Fuzz mailsrv's parsers; other arguments are libFuzzer's.")
    parser.add_argument("--target", choices=NAMES, default="smtp")
    known, others = parser.parse_known_args()
    if "mailsrv" in sys.modules:
        raise RuntimeError("mailsrv was imported before it could be instrumented")
    with atheris.instrument_imports(include=["mailsrv"]):
        targets = importlib.import_module("tests.fuzz.targets")
        mutator = importlib.import_module("tests.fuzz.mutator")
        seeds = importlib.import_module("tests.fuzz.seeds")
    arguments = [sys.argv[0], *USUAL, *others]
    is_replay = any(Path(each).is_file() for each in others)
    with tempfile.TemporaryDirectory(prefix="mailsrv-seeds-") as folder:
        if not is_replay:
            seeds.write_seeds(known.target, Path(folder))
            arguments.append(folder)
        own: dict[str, object] = {}
        if known.target == "smtp":
            own["custom_mutator"] = lambda octets, most, seed: mutator.mutated(octets, most, seed, atheris.Mutate)
        child = os.fork()  # libFuzzer ends the process that it is in, and the seeds would stay
        if child == 0:
            atheris.Setup(arguments, targets.TARGETS[known.target], **own)
            atheris.Fuzz()
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
