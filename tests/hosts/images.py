# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of the hosts, built once into a storage that every set of hosts reads."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

from .podman import HostsError, Podman, run

HERE = Path(__file__).parent
KINDS = ("app", "db", "one", "proxy")
DEBIAN = "localhost/lastro-debian"
SUITE = "bookworm"
INCLUDED = "systemd,systemd-sysv,dbus,python3,iproute2,ca-certificates,sudo"


def cache() -> Path:
    """Where images lie, as ``tests/bin/cache-directory`` says."""
    return Path(run([str(HERE.parent / "bin" / "cache-directory")]).strip()) / "hosts"


def image(kind: str) -> str:
    """The image of a kind of host. Its tag changes with what it is built from."""
    files = ["base.Containerfile", "init.sh", f"{kind}.Containerfile"]
    text = "".join((HERE / name).read_text(encoding="utf-8") for name in files)
    return f"localhost/lastro-{kind}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def build(kinds: t.Iterable[str]) -> Path:
    """Have the images of *kinds*; the storage that has them. Raises HostsError."""
    home = cache()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        podman = Podman(home / "podman")
        podman.configure()
        for kind in sorted(set(kinds)):
            if not podman.has_image(image(kind)):
                _base(podman)
                _say(f"building the image of {kind} hosts")
                _build(podman, kind, image("base"))
    return podman.directory / "storage"


def _base(podman: Podman) -> None:
    """The image that all others stand on: from LASTRO_HOSTS_BASE (a Debian 12 of a registry that is reachable), else by debootstrap."""
    if podman.has_image(image("base")):
        return
    named = os.environ.get("LASTRO_HOSTS_BASE", "")
    if not named and not podman.has_image(DEBIAN):
        _say("making a Debian 12 with debootstrap")
        _bootstrap(podman, DEBIAN)
    _build(podman, "base", named or DEBIAN)


def _bootstrap(podman: Podman, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="lastro-debian-") as directory:
        run(["debootstrap", "--variant=minbase", f"--include={INCLUDED}", SUITE, directory])
        shutil.rmtree(Path(directory, "var/cache/apt"), ignore_errors=True)
        with subprocess.Popen(["tar", "-C", directory, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
            finished = subprocess.run(["podman", "import", "-", name], stdin=tar.stdout, env=podman.environment, capture_output=True, text=True, check=False)
        if tar.returncode or finished.returncode:
            raise HostsError(f"podman import failed: {finished.stderr.strip()}")


def _build(podman: Podman, kind: str, base: str) -> None:
    # The machine's own network: what apt-get reaches here, it reaches there.
    podman("build", "--network", "host", "--build-arg", f"BASE={base}", "--tag", image(kind), "--file", str(HERE / f"{kind}.Containerfile"), str(HERE))


def _say(text: str) -> None:
    sys.stderr.write(f"hosts: {text}\n")


__all__ = ("KINDS", "build", "cache", "image")
