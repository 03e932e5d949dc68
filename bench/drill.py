"""The drills on a loop, for twenty minutes unless told otherwise: `mailsrv drill` again and again, and what came of it.

Nothing may be lost or doubled, nothing stay ill, and no connection be refused, but where supervisord itself was killed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

UNMANAGED = "supervisord killed"  # until it is started again, nobody holds the ports


def one_round(only: list[str]) -> dict[str, Any]:
    """One drill on an instance of its own."""
    words = [word for each in only for word in ("--only", each)]
    command = [sys.executable, "-P", "-m", "mailsrv.cli.main", "drill", "--json", *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> None:
    """Rounds until the time is over; the last one is finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--only", action="append", default=[], help="as of `mailsrv drill`")
    asked = parser.parse_args()
    end = time.monotonic() + asked.minutes * 60
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    mail: dict[str, int] = defaultdict(int)
    unbalanced = rounds = ill = 0
    while rounds == 0 or time.monotonic() < end:
        told = one_round(asked.only)
        rounds += 1
        unbalanced += not told["audit"]
        for row in told["drills"]:
            rows[row["name"]].append(row)
        for name, number in told["mail"].items():
            mail[name] += number
    for name, found in rows.items():
        healed = [each["healed_after"] for each in found if each["healed_after"] is not None]
        median = f"{statistics.median(healed):5.1f} s, at most {max(healed):5.1f} s" if healed else "-"
        failed = sum(not each["is_good"] for each in found)
        ill += failed
        refused = sum(each["refused"] for each in found)
        print(f"{name:24} healed after {median}; refused {refused}, failed {failed} of {len(found)}")
    refused = sum(each["refused"] for name, found in rows.items() if name != UNMANAGED for each in found)
    counts = f"lost {mail['lost']}, doubled {mail['doubled']}, in doubt {mail['in_doubt']}, refused {refused}"
    print(f"{rounds} rounds, {mail['sent']} messages: {counts}")
    sys.exit(bool(mail["lost"] or mail["doubled"] or refused or unbalanced or ill))


if __name__ == "__main__":
    main()
