# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fault tests of backups share: a small disk, a database on a server of its own, and a judge of what lies in the directory."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import subprocess
import typing as t
from pathlib import Path

import pyrage
import zstandard
from demo.postgres import bin_directory
from pyrage import x25519

from .module_process import started
from .sql import execute

DISK_MEGABYTES = 36
DISK_FILES = 32
ENDS = (".dump.zst.age", ".manifest.json")


def fill(url: str, megabytes: int) -> None:
    """About *megabytes* of rows that no compression makes much smaller."""
    execute(
        url,
        "CREATE TABLE tokens (id int PRIMARY KEY, token text)",
        f"""INSERT INTO tokens SELECT i, (SELECT string_agg(encode(sha512((i || ' ' || j)::bytea), 'base64'), '') FROM generate_series(1, 11) j)
              FROM generate_series(1, {megabytes} * 1000) i""",
        "CREATE TABLE bookings AS SELECT i AS id, 'room ' || i % 7 AS room FROM generate_series(1, 20000) i",
    )


def dumped_rows(content: bytes, identity: x25519.Identity, table: str) -> list[list[str]]:
    """The rows of a *table* of several columns in an encrypted dump, read without a line of the collection."""
    clear = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(pyrage.decrypt(content, [identity]))).read()
    read = subprocess.run([bin_directory() / "pg_restore", "--data-only", f"--table={table}", "--file=-"], input=clear, capture_output=True, check=False)
    assert (read.returncode, read.stderr) == (0, b"")
    return [line.split("\t") for line in read.stdout.decode().splitlines() if "\t" in line]


@contextlib.contextmanager
def disk(path: Path) -> t.Iterator[None]:
    """A disk of its own at *path*."""
    path.mkdir()
    assert os.geteuid() == 0, "a small disk can only be mounted as root: run the tests as root, as CI does"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,nr_inodes={DISK_FILES}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@dataclasses.dataclass(frozen=True)
class Backups:
    """The directory *dest*, into which the database *url* is dumped."""

    url: str
    dest: Path
    identity: x25519.Identity

    def dump(self, name: str, **options: object) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """The module pg_dump in a process of its own."""
        given = {
            "database_url": self.url,
            "dest": str(self.dest),
            "name": name,
            "recipients": [str(self.identity.to_public())],
            "bin_dir": str(bin_directory()),
            "retention": {"keep_at_least": 100},
            **options,
        }
        return started("pg_dump", given)

    def names(self) -> set[str]:
        """Everything in the directory."""
        return {path.name for path in self.dest.iterdir()}

    def parts(self) -> list[Path]:
        """Part files of ours."""
        return [path for path in self.dest.iterdir() if path.name.endswith(".part")]

    def part_size(self) -> int:
        """Bytes of the dump so far."""
        with contextlib.suppress(OSError):
            return sum(path.stat().st_size for path in self.parts() if ".dump" in path.name)
        return 0

    def good(self) -> set[str]:
        """Names of the backups; every file under a final name was opened and read to its end, and no file is without its other half."""
        finals = {name for name in self.names() if not name.endswith(".part")}
        found = {name.removesuffix(ENDS[0]) for name in finals if name.endswith(ENDS[0])}
        assert finals == {name + end for name in found for end in ENDS}
        for name in found:
            self.check(name)
        return found

    def check(self, name: str) -> None:
        """Open and read the backup without a line of the collection."""
        content = (self.dest / f"{name}{ENDS[0]}").read_bytes()
        manifest = json.loads((self.dest / f"{name}{ENDS[1]}").read_text(encoding="utf-8"))
        assert (manifest["size"], manifest["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert len(dumped_rows(content, self.identity, "tokens")) == manifest["tables"]["public.tokens"]["rows"]

    def forget(self, *names: str) -> None:
        """Remove these backups."""
        for path in self.dest.iterdir():
            if path.name.partition(".")[0] in names:
                path.unlink()

    def take_the_room(self) -> None:
        """Another file takes all that is left of the disk."""
        with self.filler.open("wb", buffering=0) as stream:
            for piece in (1 << 20, 1 << 12):
                end = stream.seek(0, os.SEEK_END)
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(stream.fileno(), end, piece)
                        end += piece

    def take_the_names(self, left: int) -> list[Path]:
        """Empty files, so that only *left* new ones can be made on the disk."""
        made = [self.dest.with_name(f"empty{number}") for number in range(os.statvfs(self.dest).f_favail - left)]
        for path in made:
            path.touch()
        return made

    @property
    def filler(self) -> Path:
        """The file of ``take_the_room``."""
        return self.dest.with_name("filler")
