"""A long kill sweep (tests/sweeping.py): delivery killed at random and at chosen points, then the books audited."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.sweeping import sweep


def main() -> None:
    """Sweep again and again, and tell; exit code 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    end, seed, is_well = time.monotonic() + asked.seconds, asked.seed, True
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory(prefix="mailsrv-bench-") as folder:
            swept = sweep(Path(folder), min(30.0, max(1.0, end - time.monotonic())), seed)
        is_good = swept.audited.is_balanced and not swept.wrong and not swept.left
        print(f"seed {seed}: {swept.kills} kills, {swept.messages} messages, {swept.held} held and released,", end=" ")
        print("nothing lost, nothing doubled" if is_good else f"WRONG: {swept}", flush=True)
        seed, is_well = seed + 1, is_well and is_good
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
