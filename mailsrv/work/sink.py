"""The next host of the drill's outgoing mail: on loopback, takes everything, and keeps who each message was for."""

import contextlib
import socket
import threading
from typing import Final

from mailsrv.model.envelope import Envelope
from mailsrv.protocol.smtp import Session
from mailsrv.protocol.smtp_events import ContentOffered, Event, Limits, MessageEnded, Security

LIMITS: Final = Limits(max_message_octets=1 << 30, max_recipients=1000, max_messages=10_000, max_line_octets=100_000)
ADDRESS: Final = "127.0.0.1"
OCTETS: Final = 65_536


class Sink:
    """Listens at `port` until it is closed; what was taken is never forgotten."""

    def __init__(self) -> None:
        self._listener = socket.create_server((ADDRESS, 0))
        self.port: int = self._listener.getsockname()[1]
        self._taken: list[str] = []

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._accept, name="sink", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread that waits for a client keeps it open
        self._listener.close()

    def taken(self) -> list[str]:
        """The local parts of the recipients, one for each message that was taken for them."""
        return self._taken.copy()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], name="sink", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        session = Session("sink.invalid", LIMITS)
        session.greet(Security())
        envelope: Envelope | None = None
        with client, contextlib.suppress(OSError):
            while not session.is_closed:
                while (event := session.next_event()) is not None:
                    envelope = self._answer(session, event, envelope)
                client.sendall(session.replies())
                octets = client.recv(OCTETS)
                if not octets:
                    return
                session.receive(octets)

    def _answer(self, session: Session, event: Event, envelope: Envelope | None) -> Envelope | None:
        """Take it; gives the envelope of the message that is coming in."""
        if isinstance(event, ContentOffered):
            envelope = event.envelope
        elif isinstance(event, MessageEnded) and envelope is not None:
            self._taken += [each.forward_path.local_part for each in envelope.recipients]
        if session.is_waiting:
            session.accept()
        return envelope
