# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisord of one's own: it keeps the application's processes and the dead-man timers, without root."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import tempfile
import typing as t
from pathlib import Path

from .process import Daemon, alive, children, environment, keep, kept, wait_until

SOCKET_LIMIT = 90
"""A unix socket's path has 107 bytes at most, and supervisord binds to a longer name first."""


def _escape(path: Path) -> str:
    return str(path).replace("%", "%%")


@dataclasses.dataclass(frozen=True)
class Supervisor:
    """A supervisord in *base*, a directory that belongs to it alone; programs are files in ``conf.d``."""

    base: Path
    socket: Path

    @classmethod
    def create(cls, base: Path) -> Supervisor:
        """Configure a supervisord in *base* (created), and start it."""
        base.mkdir(mode=0o755, parents=True)
        path = base / "supervisor.sock"
        if len(os.fsencode(path)) > SOCKET_LIMIT:
            path = Path(tempfile.mkdtemp(prefix="lastro-supervisor-")) / "supervisor.sock"
        keep(base, socket=str(path))
        server = cls.open(base)
        server.programs.mkdir()
        (base / "log").mkdir()
        server.config.write_text(server._settings(), encoding="utf-8")
        server.start()
        return server

    @classmethod
    def open(cls, base: Path) -> Supervisor:
        """The supervisord that ``create`` made in *base*, running or not."""
        return cls(base=base, socket=Path(kept(base)["socket"]))

    @property
    def config(self) -> Path:
        """The one configuration file, for supervisord and supervisorctl."""
        return self.base / "supervisord.conf"

    @property
    def programs(self) -> Path:
        """Where each program's file goes."""
        return self.base / "conf.d"

    @property
    def ctl(self) -> list[str]:
        """supervisorctl, as an argument list."""
        return [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.config)]

    @property
    def daemon(self) -> Daemon:
        """supervisord as a process."""
        command = (sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.config))
        return Daemon(command, self.base / "supervisord.output", environment(self.base))

    def variables(self) -> dict[str, t.Any]:
        """``deploy_supervisor`` for this server."""
        return {"config_dir": str(self.programs), "ctl": self.ctl}

    def start(self) -> None:
        """Start supervisord and wait until its socket answers."""
        self.socket.parent.mkdir(mode=0o700, exist_ok=True)
        self.daemon.start(self._answers)

    def stop(self, *, seconds: float = 60) -> None:
        """Stop every program and supervisord. What still runs after *seconds* is killed, with its process group."""
        started = [pid for parent in self.daemon.pids() for pid in children(parent)]
        self.daemon.stop(seconds=seconds)
        for pid in filter(alive, started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, started)), seconds=5, what="programs of supervisord")
        if self.socket.parent != self.base:
            self.socket.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self.socket.parent.rmdir()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self.socket))
            return True
        return False

    def _settings(self) -> str:
        base = _escape(self.base)
        user = "user=root\n" if os.geteuid() == 0 else ""
        return (
            f"[supervisord]\nsilent=true\nlogfile={base}/supervisord.log\npidfile={base}/supervisord.pid\n"
            f"childlogdir={base}/log\ndirectory={base}\n{user}"
            f"[unix_http_server]\nfile={_escape(self.socket)}\nchmod=0700\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{_escape(self.socket)}\n"
            f"[include]\nfiles={base}/conf.d/*.conf\n"
        )


__all__ = ("Supervisor",)
