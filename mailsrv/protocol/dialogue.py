"""What the SMTP and the POP3 session have in common: octets in, one question at a time, replies out."""

from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from mailsrv.protocol.lines import LineReader

MAX_REPLIES: Final = 128 * 1024  # octets of replies that may wait to be taken before the session goes on

E = TypeVar("E")  # the events of a protocol


class Dialogue(ABC, Generic[E]):
    """A session as its daemon drives it: `receive`, `next_event` until None, answer what asks, send `replies`."""

    def __init__(self, max_line: int) -> None:
        self._lines = LineReader(max_line)
        self._replies = bytearray()
        self._question: E | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether an event stands unanswered."""
        return self._question is not None

    @property
    def buffered(self) -> int:
        """Octets received and not yet looked at."""
        return len(self._lines)

    @property
    def is_overfull(self) -> bool:
        """Whether replies must be taken before the session goes on: one who asks and never reads costs no more."""
        return len(self._replies) > MAX_REPLIES

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether nothing more will be said after `replies`."""

    @property
    @abstractmethod
    def is_in_transaction(self) -> bool:
        """Whether breaking off now would cost the client what is under way."""

    def receive(self, octets: bytes) -> None:
        """Octets from the client."""
        self._lines.feed(octets)

    def replies(self) -> bytes:
        """What is to be sent to the client now; taken once."""
        octets = bytes(self._replies)
        self._replies.clear()
        return octets

    @abstractmethod
    def next_event(self) -> E | None:
        """The next event; None while octets, an answer, or the taking of replies are needed."""

    @abstractmethod
    def shut_down(self) -> None:
        """The service stops."""

    @abstractmethod
    def time_out(self) -> None:
        """The client has been silent for too long."""

    @abstractmethod
    def break_off(self) -> None:
        """A fault of ours, or the client is gone."""

    def _answered(self) -> E:
        if self._question is None:
            raise RuntimeError("nothing was asked")
        question, self._question = self._question, None
        return question
