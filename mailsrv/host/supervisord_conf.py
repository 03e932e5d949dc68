"""`supervisord.conf`: how supervisord is to run the programs of an instance."""

from collections.abc import Callable
from typing import Final

PROGRAMS: Final = {"smtp": "smtpd", "delivery": "deliverd", "pop3": "pop3d", "relay": "relayd"}
LISTENER: Final = ("health", "healthd")

_HEAD = """\
; mailsrv under supervisord; `supervisorctl -c supervisord.conf stop smtp` is the whole command.

[supervisord]
identifier=mailsrv
directory=%(here)s
pidfile=%(here)s/var/supervisor/supervisord.pid
logfile=%(here)s/var/log/supervisord.log
logfile_maxbytes=5MB
logfile_backups=3

[unix_http_server]
file=%(here)s/var/supervisor/supervisor.sock
; the folder lets in whom it should: the one who starts supervisord, and the group of run_as
chmod=0777

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://%(here)s/var/supervisor/supervisor.sock
"""

_COMMON = """\
command={command} --root "%(here)s"
autorestart=true
startsecs=1
; each try waits a second longer than the one before; {after}
startretries={retries}
stopwaitsecs=20
stopasgroup=true
killasgroup=true
"""

_PROGRAM = """
[program:{name}]
{common}{copies}redirect_stderr=true
stdout_logfile=%(here)s/var/log/{log}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=3
"""

_LISTENER = """
; an event listener: its standard output belongs to supervisord's protocol
[eventlistener:{name}]
{common}events=PROCESS_STATE
buffer_size=1000
stdout_logfile=NONE
stderr_logfile=%(here)s/var/log/{name}.log
stderr_logfile_maxbytes=5MB
stderr_logfile_backups=3
"""


# Several processes of a program share its listening sockets, and are named by this.
_COPIES: Final = """\
numprocs={number}
process_name=%(program_name)s_%(process_num)02d
"""
SHARING: Final = frozenset({"smtp", "pop3"})  # programs of which there may be several processes


# Tries after which supervisord gives a program up. With a broken configuration nobody is left to start `health`.
_RETRIES: Final = {"retries": 20, "after": "after the last one, health goes on trying"}
_FOR_EVER: Final = {"retries": 10_000, "after": "in effect for ever"}


def render(command_of: Callable[[str], str], processes: int = 1) -> str:
    """The file; `command_of` gives the command of a program such as `smtpd`, quoted as a shell would need it.

    `processes` are for each of those that may have several.
    """
    programs = [
        _program(name, command_of(program), processes if name in SHARING else 1) for name, program in PROGRAMS.items()
    ]
    name, program = LISTENER
    common = _COMMON.format(command=command_of(program), **_FOR_EVER)
    return _HEAD + "".join(programs) + _LISTENER.format(name=name, common=common)


def _program(name: str, command: str, processes: int) -> str:
    copies, log = (_COPIES.format(number=processes), f"{name}_%(process_num)02d") if processes > 1 else ("", name)
    return _PROGRAM.format(name=name, common=_COMMON.format(command=command, **_RETRIES), copies=copies, log=log)
