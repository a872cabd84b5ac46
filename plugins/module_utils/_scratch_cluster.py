# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL cluster of our own: made, used and removed by one process, and never running longer than it. PRIVATE to the collection.

One that ``Cluster.keep`` was called for stays on the disk, stopped, for one ``reopened`` of another process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
import typing as t
from pathlib import Path

from ._backup_programs import directories, major, version_of
from ._errors import LastroError, Text
from ._files import write_atomic

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2

PREFIX = "lastro-rehearsal-"
ROLE = "lastro_rehearsal"
ACCOUNTS = ("postgres", "nobody")
"""Whose process it is where we are root, which PostgreSQL refuses: the account of the server's package, else nobody."""
START_SECONDS = 60.0
STOP_SECONDS = 10.0
KEPT = "kept.json"
"""What a kept cluster needs to be opened again: ``{password, programs, database}``."""
KEPT_SECONDS = 86_400
"""How long nobody but ``left_over`` removes a kept one."""
# What is thrown away need not survive a power failure.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "20",
}


def _cannot(problem: str) -> LastroError:
    return LastroError(
        f"rehearsal_cluster: {problem}.",
        remedy=Text(
            en="Install the server's package on this host (postgresql-NN on Debian; no cluster of it has to run), or name a server in rehearsal_url.",
            pt_BR="Instale o pacote do servidor neste host (postgresql-NN no Debian; nenhum cluster precisa rodar), ou indique um servidor em rehearsal_url.",
        ),
        code="rehearsal",
    )


def programs(bin_dir: str | None, at_least: int) -> Path:
    """The directory of the oldest server that is not older than major *at_least*. Raises LastroError."""
    there = [one for one in directories(bin_dir) if all(os.access(one / name, os.X_OK) for name in ("initdb", "postgres"))]
    found = [(major(version_of(one / "postgres")), one) for one in there]
    fit = [one for one in found if one[0] >= at_least]
    if not fit:
        older = f"; there is {max(number for number, _one in found)}" if found else ""
        raise _cannot(f"no programs of a PostgreSQL server of {at_least} or newer are on this host{older}")
    return min(fit)[1]


@dataclasses.dataclass
class Cluster:
    """A running cluster: the *url* of its superuser's database, and the directory *base* that holds all of it."""

    url: str = dataclasses.field(repr=False)
    base: Path
    programs: Path
    password: str = dataclasses.field(repr=False)
    kept: str = ""

    def keep(self, database: str) -> Path:
        """Leave the cluster, stopped, on the disk when its block ends: ``reopened`` finds *database* in it. The directory to ask for."""
        self.kept = database
        return self.base


@contextlib.contextmanager
def throw_away(directory: Path, *, bin_dir: str | None, at_least: int) -> t.Iterator[Cluster]:
    """A new cluster below *directory*; at the end it is gone, unless it was kept. It ends with this process, however that ends.

    Files that a killed process left there are removed first. Raises LastroError.
    """
    where = programs(bin_dir, at_least)
    _left_over(directory, drop=True, kept_seconds=KEPT_SECONDS)
    base = directory / f"{PREFIX}{secrets.token_hex(6)}"
    account = None if os.geteuid() else _account()
    password = secrets.token_urlsafe(24)
    with _removed(base, make=True):
        _initialise(base, where, password, account)
        with _running(base, where, account, password) as cluster:
            yield cluster


@contextlib.contextmanager
def reopened(base: Path) -> t.Iterator[tuple[Cluster, str]]:
    """The cluster that another process kept in *base*, and the name of the database in it; at the end it is gone. Raises LastroError."""
    if not base.name.startswith(PREFIX) or not (base / KEPT).is_file():
        raise _cannot(f"{base} is no cluster that was kept")
    account = None if os.geteuid() else _account()
    with _removed(base, make=False):
        try:
            kept = json.loads((base / KEPT).read_text(encoding="utf-8"))
            (base / KEPT).unlink()
            where, password, database = Path(kept["programs"]), str(kept["password"]), str(kept["database"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _cannot(f"{base} cannot be opened again ({type(error).__name__})") from None
        with _running(base, where, account, password) as cluster:
            yield cluster, database


@contextlib.contextmanager
def _removed(base: Path, *, make: bool) -> t.Iterator[None]:
    """Hold *base* for this process and remove it at the end, unless it is kept. Raises LastroError."""
    with contextlib.ExitStack() as stack:
        try:
            if make:
                base.mkdir(mode=0o700, parents=True)
            stack.callback(_remove, base)
            stack.enter_context(_held(base))
        except OSError as error:
            raise _cannot(f"{base} cannot be {'made' if make else 'used'}: {error.strerror}") from None
        yield


def _remove(base: Path) -> None:
    if not (base / KEPT).exists():
        shutil.rmtree(base, ignore_errors=True)


def left_over(directory: Path, *, drop: bool) -> list[str]:
    """What killed processes left below *directory*, and what was kept and is not in use, removed where that is asked for."""
    return _left_over(directory, drop=drop, kept_seconds=0)


def _left_over(directory: Path, *, drop: bool, kept_seconds: float) -> list[str]:
    found = []
    for base in sorted(directory.glob(f"{PREFIX}*")):
        with contextlib.suppress(BlockingIOError), _held(base):
            if _age_of_kept(base) < kept_seconds:
                continue
            found.append(str(base))
            if drop:
                shutil.rmtree(base)
    return found


def _age_of_kept(base: Path) -> float:
    try:
        return time.time() - (base / KEPT).stat().st_mtime
    except OSError:
        return float("inf")


@contextlib.contextmanager
def _held(base: Path) -> t.Iterator[None]:
    """Mark *base* as in use by this process, as long as it lives. Raises BlockingIOError where another one does."""
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _account() -> pwd.struct_passwd:
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise _cannot(f"there is no account to run it (one of {', '.join(ACCOUNTS)})")


def _initialise(base: Path, where: Path, password: str, account: pwd.struct_passwd | None) -> None:
    try:
        # initdb reads the password once; nobody else can look into the directory, and the file goes at once.
        passfile = base / "password"
        descriptor = os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(password)
        if account:
            for path in (base, passfile):
                os.chown(path, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise _cannot(f"{base} cannot be written: {error.strerror}") from None
    command = [str(where / "initdb"), f"--pgdata={base / 'data'}", f"--username={ROLE}", f"--pwfile={passfile}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        ended = subprocess.run(  # pylint: disable=ansible-bad-function
            _as(account, command), capture_output=True, text=True, check=False, env=_environment(base), cwd=base, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise _cannot(f"initdb cannot be started: {error.strerror}") from None
    passfile.unlink()
    if ended.returncode != 0:
        raise _cannot(f"initdb ended with {ended.returncode}: {' '.join(ended.stderr.split())[-300:]}")


@contextlib.contextmanager
def _running(base: Path, where: Path, account: pwd.struct_passwd | None, password: str) -> t.Iterator[Cluster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = [f"--{name}={value}" for name, value in {**SETTINGS, "port": str(port)}.items()]
    cluster = Cluster(f"postgresql://{ROLE}:{password}@127.0.0.1:{port}/postgres", base, where, password)
    # QUIT is what pg_ctl stop -m immediate sends.
    command = _as(account, [str(where / "postgres"), "-D", str(base / "data"), *settings], "--pdeathsig=QUIT")
    with (base / "log").open("wb") as log:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(base), cwd=base
        )
    try:
        _wait(process, cluster.url, base)
        yield cluster
        if cluster.kept:
            _stop_whole(process, cluster)
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _stop_whole(process: subprocess.Popen[bytes], cluster: Cluster) -> None:
    """Stop with a checkpoint and note what opens it again; one that does not stop so is not kept."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired, OSError):
        if process.wait(timeout=START_SECONDS) == 0:
            kept = {"password": cluster.password, "programs": str(cluster.programs), "database": cluster.kept}
            write_atomic(cluster.base / KEPT, json.dumps(kept).encode())


def _wait(process: subprocess.Popen[bytes], url: str, base: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            psycopg2.connect(url, connect_timeout=2).close()
        except psycopg2.OperationalError:
            time.sleep(0.05)
        else:
            return
    said = (base / "log").read_text(encoding="utf-8", errors="replace")
    raise _cannot(f"the server does not start: {' '.join(said.split())[-300:]}")


def _as(account: pwd.struct_passwd | None, command: list[str], *options: str) -> list[str]:
    """*command* run by *account*, with more *options* of setpriv."""
    become = [] if account is None else [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return ["setpriv", *become, *options, *command] if become or options else command


def _environment(base: Path) -> dict[str, str]:
    """Nothing of ours, which may hold a password."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(base), "LC_ALL": "C"}


__all__ = ("KEPT", "PREFIX", "ROLE", "Cluster", "left_over", "programs", "reopened", "throw_away")
