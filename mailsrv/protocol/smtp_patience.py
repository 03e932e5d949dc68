"""How much an SMTP session puts up with before it hangs up (RFC 5321 §7.8: resistance to attacks)."""

from typing import Final

from mailsrv.model import reply
from mailsrv.model.reply import Reply

MAX_ERRORS: Final = 10  # commands refused for their form or their order
MAX_UNWANTED: Final = 50  # recipients refused: somebody tries out names
UNCOUNTED: Final = frozenset({reply.MESSAGE_TOO_BIG, reply.TOO_MANY_MESSAGES})  # without a mistake of the client's


class Patience:
    """Counts what goes wrong between one message taken and the next."""

    def __init__(self) -> None:
        self._errors = self._unwanted = 0
        self.is_excused = False  # the last MAIL or RCPT was refused: what was pipelined behind it is out of order

    def ends_with_error(self, answer: Reply) -> bool:
        """Count a command that gets this answer; whether it was one too many."""
        is_collateral = self.is_excused and answer == reply.BAD_SEQUENCE
        self._errors += not is_collateral and answer not in UNCOUNTED
        return self._errors >= MAX_ERRORS

    def ends_with_unwanted(self, answer: Reply) -> bool:
        """Count a recipient who gets this answer; whether it was one too many."""
        self._unwanted += answer.is_permanent
        return self._unwanted >= MAX_UNWANTED

    def renew(self) -> None:
        """A message was taken: a session kept open for many may err now and then."""
        self._errors = self._unwanted = 0
