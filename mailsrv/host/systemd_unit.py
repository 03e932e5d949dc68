"""The systemd unit of an instance: started at boot, restarted for ever, watched, without rights but to bind ports."""

from pathlib import Path
from typing import Final

FILE_NAME: Final = "mailsrv.service"

_UNIT: Final = """\
# mailsrv under systemd: supervisord in the foreground. `health` tells systemd every second that supervisord answers and
# does not spin; when it no longer does, systemd restarts everything.

[Unit]
Description=mailsrv, a mail server (SMTP, POP3)
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
User={user}
Group={group}
WorkingDirectory={folder}
# supervisord runs as {user} here, and so what it writes belongs to {user}
ExecStartPre=+/bin/chown -hR {user}:{group} {quoted}/var/log {quoted}/var/supervisor
ExecStart={command} up
Restart=always
RestartSec=5
WatchdogSec=60
TimeoutStartSec=120
TimeoutStopSec=60
KillMode=mixed
LimitNOFILE=65536

# ports below 1024, and nothing else
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={quoted}/var
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def render(root: Path, python: str, user: str, group: str) -> str:
    """The unit of the instance at `root`, an absolute path."""
    folder = str(root).replace("%", "%%")
    quoted = folder.replace(" ", "\\x20")
    command = f'"{python.replace("%", "%%")}" -P -m mailsrv.cli.main --root "{folder}"'
    return _UNIT.format(user=user, group=group, folder=folder, quoted=quoted, command=command)
