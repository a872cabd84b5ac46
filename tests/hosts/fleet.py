# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of hosts in one directory: up, down, an inventory, and what tests do to a host."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import fcntl
import ipaddress
import json
import secrets
import shutil
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from . import images
from .podman import HostsError, Podman, inspect, install, run

USER = "ops"
"""Who logs in; sudo lets them do everything, as on most production hosts."""

WITH_DATABASE = ("db", "one")
"""The kinds of hosts on which PostgreSQL and Redis run."""

PATIENCE = 180.0
BOOTED = ("running", "degraded")
"""What systemd calls itself once nothing is left to start; degraded where a unit failed."""

FIRST_ADDRESS = 11
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_RESOURCE", "SYS_NICE", "AUDIT_WRITE", "AUDIT_CONTROL", "LINUX_IMMUTABLE", "SETPCAP", "SYS_BOOT")
"""What systemd needs to harden its units as it does on a real host."""


@dataclasses.dataclass(frozen=True)
class Host:
    """A host that is up."""

    fleet: Fleet
    name: str
    kind: str
    address: str

    @property
    def container(self) -> str:
        """Its container's name."""
        return f"{self.fleet.network}-{self.name}"

    def ssh(self) -> list[str]:
        """The start of a command line that runs a command there."""
        return ["ssh", *self.fleet.ssh_options(), f"{USER}@{self.address}"]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """What a program prints there, as root. Raises HostsError."""
        return self.fleet.podman("exec", "--interactive", self.container, *arguments, stdin=stdin)

    def sh(self, script: str) -> str:
        """What a shell script prints there, as root. Raises HostsError."""
        return self.run("sh", "-euc", script)

    def booted(self) -> None:
        """Until its systemd has started everything. Raises HostsError with its last words where that never comes."""
        # A container runs before its systemd answers, and a unit restarted while the boot starts it fails.
        until = time.monotonic() + PATIENCE
        while (state := self.sh("systemctl is-system-running 2>&1 || :").strip()) not in BOOTED:
            if time.monotonic() > until:
                raise HostsError(f"systemd of {self.name} has not booted in {PATIENCE:g} s: {state} {self.sh('cat /run/lastro-init.log 2>&1 || :').strip()}")
            time.sleep(0.1)

    def reboot(self) -> None:
        """Stop its systemd as a shutdown does, start it again, and wait until one can log in."""
        self.fleet.podman("restart", "--time", "60", self.container)
        self.wait()

    def kill(self) -> None:
        """Cut its power."""
        self.fleet.podman("kill", "--signal", "KILL", self.container)

    def start(self) -> None:
        """Switch it on again."""
        self.fleet.podman("start", self.container)
        self.wait()

    def wait(self) -> None:
        """Until it has booted and one can log in. Raises HostsError."""
        self.booted()
        until = time.monotonic() + PATIENCE
        while (finished := subprocess.run([*self.ssh(), "true"], capture_output=True, text=True, check=False)).returncode:
            if time.monotonic() > until:
                raise HostsError(f"{self.name} lets nobody in for {PATIENCE:g} s: {finished.stderr.strip()}")
            time.sleep(0.1)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The hosts in a directory. Nothing of them is outside of it, and of the images' cache."""

    directory: Path

    @property
    def podman(self) -> Podman:
        """Podman for these hosts."""
        return Podman(self.directory / "podman", images.cache() / "podman" / "storage")

    @property
    def network(self) -> str:
        """The network of these hosts."""
        return str(self._state()["network"])

    @property
    def passwords(self) -> dict[str, str]:
        """The passwords of PostgreSQL's role postgres and of Redis where they run."""
        return t.cast(dict[str, str], self._state()["passwords"])

    @property
    def hosts(self) -> dict[str, Host]:
        """The hosts by name."""
        return {name: Host(self, name, one["kind"], one["address"]) for name, one in self._state()["hosts"].items()}

    @property
    def inventory(self) -> Path:
        """An inventory of the hosts, in groups named as their kinds."""
        return self.directory / "inventory.yml"

    def _state(self) -> dict[str, t.Any]:
        try:
            return t.cast(dict[str, t.Any], json.loads((self.directory / "hosts.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise HostsError(f"There are no hosts in {self.directory}; start some with: hosts up {self.directory}") from None

    def ssh_options(self) -> list[str]:
        """How ssh finds the throw-away key, and knows these hosts alone."""
        settings = {"IdentitiesOnly": "yes", "UserKnownHostsFile": self.directory / "known_hosts", "BatchMode": "yes", "ConnectTimeout": 5, "LogLevel": "ERROR"}
        return ["-i", str(self.directory / "key"), "-F", "none", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]

    def up(self, wanted: t.Mapping[str, str]) -> None:
        """Have hosts, by name and kind, booted and open for SSH. Raises HostsError, and leaves nothing behind then."""
        if self.directory.exists() and any(self.directory.iterdir()):  # all of it goes with the hosts
            raise HostsError(f"{self.directory} is not empty: name a directory that is not there yet, or remove its hosts with: hosts down {self.directory}")
        install()
        images.build(wanted.values())
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._start(wanted)
        except BaseException:
            with contextlib.suppress(HostsError):
                self.down()
            raise

    def _start(self, wanted: t.Mapping[str, str]) -> None:
        self.podman.configure()
        with _alone():
            self._boot_all(wanted)
        self._admit()
        put(self.inventory, json.dumps(self._inventory(), indent=2))

    def _boot_all(self, wanted: t.Mapping[str, str]) -> None:
        network = f"lastro-{secrets.token_hex(3)}"
        self.podman("network", "create", network)
        subnet = ipaddress.ip_network(inspect(self.podman, "network", "inspect", network)["subnets"][0]["subnet"])
        state = {
            "network": network,
            "passwords": {"postgres": secrets.token_hex(16), "redis": secrets.token_hex(16)},
            "hosts": {name: {"kind": kind, "address": str(subnet[FIRST_ADDRESS + number])} for number, (name, kind) in enumerate(wanted.items())},
        }
        put(self.directory / "hosts.json", json.dumps(state))
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lastro-test", "-f", str(self.directory / "key")])
        for host in self.hosts.values():
            self._boot(host)

    def _boot(self, host: Host) -> None:
        rights = [word for name in CAPABILITIES for word in ("--cap-add", name)]
        place = ["--name", host.container, "--hostname", host.name, "--network", host.fleet.network, "--network-alias", host.name, "--ip", host.address]
        place += ["--network-alias", f"{host.name}.test"]  # a name that a certificate may be for
        # With a new address of its card, its neighbours would look for it at the old one after a reboot.
        place += ["--mac-address", "02:00:" + ":".join(f"{part:02x}" for part in ipaddress.ip_address(host.address).packed)]
        safety = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "unmask=ALL"]
        self.podman("run", "--detach", "--systemd", "always", "--cgroupns", "private", *rights, *safety, *place, images.image(host.kind))

    def _admit(self) -> None:
        """Let the key in, and know each host by its own."""
        public = (self.directory / "key.pub").read_text(encoding="utf-8")
        known = []
        for host in self.hosts.values():
            host.booted()
            host.run("sh", "-euc", f"install -d -o {USER} -m 700 ~{USER}/.ssh; cat > ~{USER}/.ssh/authorized_keys", stdin=public)
            key = host.sh("rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; cat /etc/ssh/ssh_host_ed25519_key.pub")
            known.append(f"{host.address} {' '.join(key.split()[:2])}")
        put(self.directory / "known_hosts", "\n".join(known) + "\n")
        for host in self.hosts.values():
            if host.kind in WITH_DATABASE:
                self._set_passwords(host)
            host.sh("systemctl restart ssh")
            host.wait()

    def _set_passwords(self, host: Host) -> None:
        host.sh("until su postgres -c 'psql -qc \"SELECT 1\"' >/dev/null 2>&1; do sleep 0.1; done")
        host.run("su", "postgres", "-c", "psql -q", stdin=f"ALTER ROLE postgres PASSWORD '{self.passwords['postgres']}';\n")
        host.run("sh", "-euc", "cat > /etc/redis/password.conf; chown redis /etc/redis/password.conf", stdin=f"requirepass {self.passwords['redis']}\n")
        host.sh("systemctl restart redis-server")

    def _inventory(self) -> dict[str, t.Any]:
        groups: dict[str, t.Any] = {}
        for host in self.hosts.values():
            groups.setdefault(host.kind, {"hosts": {}})["hosts"][host.name] = {"ansible_host": host.address, "deploy_address": host.address}
        shared = {
            "ansible_user": USER,
            "ansible_become": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": " ".join(self.ssh_options()),
        }
        return {"hosts_of_this_machine": {"children": groups, "vars": shared}}

    def down(self) -> None:
        """Remove the hosts, their network, the key and the directory. Raises HostsError where none of that is there."""
        if not (self.podman.directory / "storage.conf").exists():
            raise HostsError(f"There are no hosts in {self.directory}.")
        self.podman.remove()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            raise HostsError(f"{self.directory} could not be removed whole: look for what is still mounted or running there.")


@contextlib.contextmanager
def _alone() -> collections.abc.Iterator[None]:
    """No other hosts get their network meanwhile: Podman knows those of another directory by their bridge, which comes with their first host."""
    with (images.cache() / "networks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def put(path: Path, text: str) -> None:
    """A file that is ours alone."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def say(text: str) -> None:
    """A line for the one who waits."""
    sys.stdout.write(f"{text}\n")


__all__ = ("USER", "Fleet", "Host", "say")
