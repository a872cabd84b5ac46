# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman with settings and storage of its own: nothing of the machine's own Podman is read or written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
"""The programs and the packages of Debian and Ubuntu that have them. Debian only recommends those for the network."""

GROUPS = Path("/sys/fs/cgroup")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class HostsError(Exception):
    """What is missing on this machine, in one sentence."""


def run(arguments: t.Sequence[str], *, stdin: str | None = None, environment: t.Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises HostsError with its last words where it fails."""
    try:
        # Podman leaves its conmon behind, which would keep a pipe for errors open.
        finished = subprocess.run(list(arguments), input=stdin, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise HostsError(f"{arguments[0]} cannot be started: {error.strerror}.") from error
    if finished.returncode:
        said = (finished.stderr.strip() or finished.stdout.strip() or "nothing").splitlines()
        raise HostsError(f"{' '.join(arguments[:6])} failed: {' / '.join(said[-3:])}")
    return finished.stdout


def install() -> None:
    """Have the programs. Raises HostsError where this machine cannot get them."""
    missing = {package for program, package in PACKAGES.items() if shutil.which(program, path=PATH) is None}
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise HostsError(f"Real hosts need {', '.join(sorted(missing))}: install them, or run this as root on Debian or Ubuntu.")
    sys.stderr.write(f"hosts: installing {', '.join(sorted(missing))}\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environment=environment)
    run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *sorted(missing)], environment=environment)


@dataclasses.dataclass(frozen=True)
class Podman:
    """Podman whose containers and networks lie in *directory*, and whose images in *images* are read alone. Its settings are *directory*'s own."""

    directory: Path
    images: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment that lets Podman see these settings and no others."""
        named = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf", "CONTAINERS_REGISTRIES_CONF": "registries.conf"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CONTAINERS_", "CONTAINER_", "XDG_"))}
        return {**kept, "PATH": PATH, **{name: str(self.directory / file) for name, file in named.items()}, "TMPDIR": str(self.directory / "tmp")}

    def configure(self) -> None:
        """Write the settings."""
        for name in ("tmp", "run", "networks"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        more = f'\n[storage.options]\nadditionalimagestores = ["{self.images}"]\n' if self.images else ""
        files = {
            "storage.conf": f'[storage]\ndriver = "{driver()}"\ngraphroot = "{self.directory}/storage"\nrunroot = "{self.directory}/run"\n{more}',
            # runc: crun wants one kind of control groups and not both. Locks in files: those in shared memory would be shared with other storages.
            "containers.conf": (
                f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nlock_type = "file"\n'
                f'tmp_dir = "{self.directory}/run/libpod"\n'
                f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{self.directory}/networks"\n'
                '[containers]\nlog_driver = "k8s-file"\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
            ),
            "registries.conf": "",
        }
        for name, text in files.items():
            (self.directory / name).write_text(text, encoding="utf-8")

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """What ``podman ARGUMENT...`` prints. Raises HostsError."""
        return run(["podman", *arguments], stdin=stdin, environment=self.environment)

    def names(self, kind: str) -> list[str]:
        """The containers (``ps``) or networks (``network``) that are there."""
        asked = ("ps", "--all", "--format", "{{.Names}}") if kind == "ps" else ("network", "ls", "--format", "{{.Name}}")
        return [name for name in self(*asked).split() if name != "podman"]

    def has_image(self, name: str) -> bool:
        """Whether an image is there."""
        try:
            self("image", "exists", name)
        except HostsError:
            return False
        return True

    def remove(self) -> None:
        """Remove every container, network and image of this storage, and the storage."""
        if (self.directory / "storage.conf").exists():
            for name in self.names("ps"):
                self("rm", "--force", "--time", "0", "--volumes", name)
            for name in self.names("network"):
                self("network", "rm", "--force", name)
            for mount in mounts_below(self.directory):
                subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        for group in (*GROUPS.glob("libpod_parent"), *GROUPS.glob("*/libpod_parent")):
            for path in sorted([group, *(path for path in group.rglob("*") if path.is_dir())], reverse=True):
                with contextlib.suppress(OSError):  # another Podman is using it
                    path.rmdir()


def driver() -> str:
    """How layers are kept: overlay where the kernel has it."""
    return "overlay" if "overlay" in Path("/proc/filesystems").read_text(encoding="utf-8") else "vfs"


def mounts_below(directory: Path) -> list[str]:
    """What is mounted in *directory*, the innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(directory)), key=len, reverse=True)


def inspect(podman: Podman, *arguments: str) -> t.Any:  # noqa: ANN401 - Podman's own JSON
    """The one object that an inspection shows."""
    return json.loads(podman(*arguments))[0]


__all__ = ("HostsError", "Podman", "driver", "inspect", "install", "run")
