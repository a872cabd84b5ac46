# SPDX-License-Identifier: GPL-3.0-or-later
"""Every damage of a stored backup is found by looking at it, without a restore: by backup_info, by pg_restore in check mode, and by pg_dump."""

from __future__ import annotations

import collections.abc
import dataclasses
import random
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.modules import backup_info, pg_dump, pg_restore
from demo.postgres import bin_directory
from pyrage import x25519

from .sql import execute

Call = collections.abc.Callable[..., dict[str, t.Any]]
Damage = collections.abc.Callable[[Path, random.Random], None]
FEW, FULL = 2, 20
CHAINS: dict[str, dict[str, object]] = {
    "zstd, age": {},
    "age": {"compression": "none"},
    "zstd": {"encryption": "none", "recipients": []},
    "gzip": {"encryption": "none", "recipients": [], "compression": "gzip"},
    "directory": {"format": "directory"},
    "bare directory": {"format": "directory", "encryption": "none", "recipients": [], "compression": "none"},
    "bare": {"encryption": "none", "recipients": [], "compression": "none"},
}


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def another_digit(path: Path, chance: random.Random) -> None:
    """Of a row where the file shows rows; else a byte that looks like one."""
    content = bytearray(path.read_bytes())
    place = chance.choice([index for index, byte in enumerate(content) if chr(byte).isdigit()])
    content[place] = ord("0") + (content[place] - ord("0") + 1) % 10
    path.write_bytes(content)


def truncate(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.truncate(chance.choice([0, size * 6 // 10, size - 1, chance.randrange(size)]))


def prolong(path: Path, chance: random.Random) -> None:
    with path.open("ab") as stream:
        stream.write(chance.randbytes(1 + chance.randrange(100)))


def zero_a_block(path: Path, chance: random.Random) -> None:
    """What a file system leaves that lost the block: the size is right."""
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content) - 512)
    content[start : start + 512] = bytes(512)
    path.write_bytes(content)


def remove(path: Path, chance: random.Random) -> None:
    path.unlink()


def take_anothers(path: Path, chance: random.Random) -> None:
    """The file of another backup under this name."""
    shutil.copy(path.with_name(path.name.replace("b1.", "b2.")), path)


def spoil_the_manifest(path: Path, chance: random.Random) -> None:
    manifest = path.with_name("b1.manifest.json")
    content = manifest.read_bytes()
    manifest.write_bytes(content[: chance.randrange(len(content) - 2)])


DAMAGES: tuple[Damage, ...] = (flip, another_digit, truncate, prolong, zero_a_block, remove, take_anothers, spoil_the_manifest)


@dataclasses.dataclass(frozen=True)
class Stored:
    """The backups b1 and b2 of a database, a row apart, and the options with which they were made."""

    dest: Path
    making: dict[str, object]
    looking: dict[str, object]
    call: Call

    def good(self) -> list[str]:
        """The names of the backups that backup_info finds good when it reads them."""
        answer = self.call(backup_info, dest=str(self.dest), verify="read")
        return sorted(one["name"] for one in answer["backups"] if one["good"])

    def files(self) -> list[Path]:
        """The files of b1, without its manifest."""
        return sorted(self.dest.glob("b1.*dump*"))

    def answers(self) -> list[dict[str, t.Any]]:
        """What the two modules say of b1."""
        return [self.call(pg_restore, check=True, **self.looking), self.call(pg_dump, check=True, name="b1", **self.making)]


@pytest.fixture(params=CHAINS)
def stored(request: pytest.FixtureRequest, call_module: Call, database: str, tmp_path: Path) -> Stored:
    identity = x25519.Identity.generate()
    given = {"database_url": database, "bin_dir": str(bin_directory()), "dest": str(tmp_path / "backups")}
    making = {**given, "recipients": [str(identity.to_public())], **CHAINS[request.param]}
    execute(database, "CREATE TABLE bookings AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 2000) i")
    execute(database, "CREATE TABLE rooms AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 1000) i")
    assert call_module(pg_dump, name="b1", **making)["changed"] is True
    execute(database, "INSERT INTO bookings VALUES (0, 'one more')", "INSERT INTO rooms VALUES (0, 'one more')")
    assert call_module(pg_dump, name="b2", **making)["changed"] is True
    return Stored(tmp_path / "backups", making, {**given, "name": "b1", "identity": str(identity)}, call_module)


def test_each_damage_is_found(stored: Stored, seeded: random.Random, rounds: collections.abc.Callable[[int, int], int]) -> None:
    assert [answer.get("failed") for answer in stored.answers()] == [None, None]
    assert stored.good() == ["b1", "b2"]
    whole = stored.dest.with_name("whole")
    shutil.copytree(stored.dest, whole)
    for damage in DAMAGES * rounds(FEW, FULL):
        damage(seeded.choice(stored.files()), seeded)
        for answer in stored.answers():
            assert answer.get("failed"), (damage.__name__, answer)
            assert str(stored.dest / "b1.") in answer["msg"]
            assert set(answer["remedy"]) == {"en", "pt_BR"}
        assert stored.good() == ["b2"], damage.__name__
        shutil.copytree(whole, stored.dest, dirs_exist_ok=True)
    assert [answer.get("failed") for answer in stored.answers()] == [None, None]
    assert stored.good() == ["b1", "b2"]
