"""supervisor: its XML-RPC interface on a unix socket, and its event listener protocol on standard input and output."""

import os
import queue
import socket
import threading
import xmlrpc.client
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from supervisor.childutils import get_headers, listener

from mailsrv.model.program import supervisor_name

TIMEOUT: Final = 10.0  # seconds until a supervisord that does not answer counts as out of reach
STOP_TIMEOUT: Final = 40.0  # the same for what waits for a program to stop or start: above stopwaitsecs


class ProcessState(Enum):
    """supervisor's words for what a program is doing; the others are UNKNOWN."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def of(cls, name: str) -> "ProcessState":
        return cls[name] if name in cls.__members__ else cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process of a program; `pid` is 0 while there is none, `uptime` in seconds since its start."""

    name: str
    state: ProcessState
    pid: int
    uptime: float


@dataclass(frozen=True, slots=True)
class StateChange:
    """A program has come to a new state; `pid` is that of the process that it is about, 0 where there is none."""

    name: str
    state: ProcessState
    pid: int = 0


class SupervisorError(Exception):
    """supervisord is out of reach, or refused."""


class Supervisor:
    """supervisord, as the programs may ask it."""

    def __init__(self, socket_path: Path, timeout: float = TIMEOUT) -> None:
        self._path = socket_path
        self._timeout = timeout

    def processes(self) -> list[ProcessInfo]:
        """All programs; raises SupervisorError."""
        found: Any = self._call("supervisor.getAllProcessInfo")
        return [
            ProcessInfo(each["name"], ProcessState.of(each["statename"]), each["pid"], each["now"] - each["start"])
            for each in found
        ]

    def kill(self, name: str) -> None:
        """End a program's process at once; supervisord starts it again. Raises SupervisorError."""
        self._call("supervisor.signalProcess", supervisor_name(name), "KILL")

    def finish(self, name: str) -> None:
        """Have a program's process finish and end; supervisord starts it again. Raises SupervisorError."""
        self._call("supervisor.signalProcess", supervisor_name(name), "TERM")

    def start(self, name: str, *, waits: bool = True) -> None:
        """Start a program, and wait until it runs; raises SupervisorError."""
        self._call("supervisor.startProcess", supervisor_name(name), waits)

    def stop(self, name: str) -> None:
        """Stop a program, and wait until it has ended; raises SupervisorError."""
        self._call("supervisor.stopProcess", supervisor_name(name), True)

    def shut_down(self) -> None:
        """End supervisord and all programs; raises SupervisorError."""
        self._call("supervisor.shutdown")

    def pid(self) -> int:
        """supervisord's own process; raises SupervisorError."""
        return int(str(self._call("supervisor.getPID")))

    def _call(self, method: str, *arguments: object) -> object:
        try:
            with xmlrpc.client.ServerProxy("http://localhost", _UnixTransport(self._path, self._timeout)) as proxy:
                call: Any = proxy
                for part in method.split("."):
                    call = getattr(call, part)
                answer: object = call(*arguments)
                return answer
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(fault.faultString) from fault
        except (OSError, HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"supervisord is out of reach: {error}") from error


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket, as supervisor's own transport, but with a timeout."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, _host: object) -> HTTPConnection:
        return _UnixConnection(self._path, self._timeout)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


class Events:
    """The state changes that supervisord tells its event listener.

    A thread acknowledges each at once: supervisord keeps few, and drops the oldest of a listener that is slow.
    """

    def __init__(self) -> None:
        self._changes: queue.SimpleQueue[StateChange | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def wait(self, timeout: float) -> StateChange | None:
        """The next change, or None after `timeout` seconds; raises SupervisorError once supervisord is gone."""
        try:
            change = self._changes.get(timeout=timeout)
        except queue.Empty:
            return None
        if change is None:
            raise SupervisorError("supervisord has closed the line")
        return change

    def _run(self) -> None:
        try:
            while True:
                headers, payload = listener.wait()
                listener.ok()
                state = headers["eventname"].removeprefix("PROCESS_STATE_")
                told = get_headers(payload)
                self._changes.put(StateChange(told["processname"], ProcessState.of(state), int(told.get("pid", 0))))
        except (KeyError, ValueError, OSError):  # the end of standard input
            self._changes.put(None)
