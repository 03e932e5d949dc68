"""How many submitters are at it together, and whether a group is to wait for those of them who have not come yet.

Two that take turns would each pay for a group of its own. Whoever has just been told brings the next message in a
moment, or never: so nobody is waited for long, and where that was in vain, not at all for the next few groups.
"""

from typing import Final

MOST_WITHOUT: Final = 32  # groups in a row that are not waited with


class Company:
    """Told of each group, in order."""

    def __init__(self) -> None:
        self._number = 1
        self._without = 0  # groups that are yet to be begun without waiting
        self._penalty = 1  # the same after the next time in vain

    def is_awaited(self, submitted: int) -> bool:
        """Whether others than those who have submitted are to be waited for."""
        return submitted < self._number and not self._without

    def has_not_come(self) -> None:
        """Those who were awaited."""
        self._without = self._penalty
        self._penalty = min(2 * self._penalty, MOST_WITHOUT)

    def finished(self, group: int, submitted: int) -> None:
        """A group of so many was finished, and so many others have submitted meanwhile."""
        if self._without:
            self._without -= 1
        elif group >= self._number > 1:
            self._penalty = 1
        self._number = group + submitted
