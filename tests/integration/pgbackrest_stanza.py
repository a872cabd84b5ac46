# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of Debian's PostgreSQL 15 whose WAL Debian's pgBackRest archives, and what comes back from its repository."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import os
import secrets
import shlex
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

import psycopg2
from demo.postgres import free_port

from .postgres_servers import DistributionPostgres

STANZA = "main"
PASSWORD = secrets.token_hex(16)
ACCOUNT = "nobody" if os.geteuid() == 0 else None


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that archives its WAL into a repository, all below *base*."""

    base: Path
    server: DistributionPostgres

    @property
    def config(self) -> Path:
        return self.base / "pgbackrest.conf"

    @property
    def repository(self) -> Path:
        return self.base / "repo" / "backup" / STANZA

    @property
    def url(self) -> str:
        return self.server.url()

    @property
    def profile(self) -> dict[str, str]:
        """The variable ``deploy_backup`` that has a deploy back it up."""
        return {"provider": "pgbackrest", "stanza": STANZA, "config": str(self.config), **({"user": ACCOUNT} if ACCOUNT else {})}

    def execute(self, *statements: str, url: str = "") -> list[tuple[t.Any, ...]]:
        """Each in a transaction of its own; the rows of the last one."""
        connection = psycopg2.connect(url or self.url)
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def pgbackrest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The program itself, under PostgreSQL's account."""
        ended = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended

    def command(self, *arguments: str) -> list[str]:
        become = ["setpriv", f"--reuid={ACCOUNT}", "--regid=nogroup", "--clear-groups"] if ACCOUNT else []
        return [*become, "pgbackrest", f"--config={self.config}", f"--stanza={STANZA}", *arguments]

    def labels(self) -> list[str]:
        """The backups in the repository."""
        return [one["label"] for one in json.loads(self.pgbackrest("info", "--output=json").stdout)[0]["backup"]]


def create(base: Path) -> Cluster:
    """A running cluster in *base*/postgres, with an empty stanza beside it."""
    for name in ("repo", "log", "lock", "spool", "socket"):
        (base / name).mkdir(mode=0o750)
        if ACCOUNT:
            shutil.chown(base / name, ACCOUNT, "nogroup")
    server = DistributionPostgres(base / "postgres", free_port(), PASSWORD)
    one = Cluster(base, server)
    settings = [
        f"repo1-path={base}/repo",
        "repo1-retention-full=2",
        "repo1-bundle=y",
        f"log-path={base}/log",
        f"lock-path={base}/lock",
        f"spool-path={base}/spool",
        "compress-type=zst",
    ]
    stanza = [f"pg1-path={server.data}", f"pg1-socket-path={base}/socket", f"pg1-port={server.port}", "pg1-user=postgres"]
    one.config.write_text("\n".join(["[global]", *settings, f"[{STANZA}]", *stanza, ""]), encoding="utf-8")
    archive = f"pgbackrest --config={one.config} --stanza={STANZA} archive-push %p"
    server.initialise({"unix_socket_directories": f"'{base}/socket'", "archive_mode": "on", "archive_command": f"'{archive}'"})
    access = server.data / "pg_hba.conf"
    access.write_text("local all postgres trust\n" + access.read_text(encoding="utf-8"), encoding="utf-8")
    server._program("pg_checksums", "--enable", "--no-sync", f"--pgdata={server.data}")
    server.start()
    try:
        one.pgbackrest("stanza-create")
    except BaseException:
        server.stop("immediate")
        raise
    return one


@contextlib.contextmanager
def restored(cluster: Cluster, restore_command: str, directory: Path) -> collections.abc.Iterator[str]:
    """URL of a cluster that the module's own *restore_command* has restored into *directory*."""
    copy = DistributionPostgres(directory, free_port(), PASSWORD)
    for path in (copy.data, copy.data.with_name("data.tablespaces")):
        path.mkdir(mode=0o700, parents=True)
        if ACCOUNT:
            shutil.chown(path, ACCOUNT, "nogroup")
    command = shlex.split(restore_command.replace("NEW_DIRECTORY", str(copy.data)))
    assert command[:3] == ["pgbackrest", f"--config={cluster.config}", f"--stanza={STANZA}"]
    cluster.pgbackrest(*command[3:])
    with (copy.data / "postgresql.auto.conf").open("a", encoding="utf-8") as stream:
        stream.write("unix_socket_directories = ''\n")
    copy.start()
    try:
        until = time.monotonic() + 60
        while cluster.execute("SELECT pg_is_in_recovery()", url=copy.url())[0][0]:
            assert time.monotonic() < until, copy.log.read_text(encoding="utf-8")[-2000:]
            time.sleep(0.05)
        yield copy.url()
    finally:
        copy.stop("immediate")


__all__ = ("ACCOUNT", "PASSWORD", "STANZA", "Cluster", "create", "restored")
