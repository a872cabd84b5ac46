# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of tokens and the application beside it, for the tests of token_encryption."""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import dataclasses
import json
import os
import sys
import types
from typing import Any

import psycopg2
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils._token_columns import Table, names_from_params, read_table
from ansible_collections.lastro.deploy.plugins.module_utils._token_options import Options, token_encryption_argument_spec
from ansible_collections.lastro.deploy.plugins.modules import token_encryption, token_encryption_info
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from ..conftest import FULL
from . import token_application
from .token_application import Writes

Row4 = tuple[Any, str | None, bytes | None, bytes | None]
MIN_WRITES = 1500
KEY, OTHER_KEY = os.urandom(32), os.urandom(32)
COLUMNS: dict[str, object] = {"schema": "public", "table": "credentials", "source": "token", "ciphertext": "token_encrypted", "nonce": "token_nonce"}


def text_of(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


def sealed(text: str, key: bytes = KEY) -> tuple[bytes, bytes]:
    nonce = os.urandom(12)
    return AESGCM(key).encrypt(nonce, text.encode(), None), nonce


def opened(ciphertext: bytes | None, nonce: bytes | None, key: bytes = KEY) -> str | None:
    """What the application reads, by cryptography alone."""
    return None if ciphertext is None else AESGCM(key).decrypt(bytes(nonce or b""), bytes(ciphertext), None).decode()


class Credentials:
    """The table of the tests, seen by a session of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = self.connect()

    def connect(self) -> Connection:
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        return connection

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def create(self, rows: int) -> None:
        self.sql("CREATE TABLE credentials (id serial PRIMARY KEY, token text, token_encrypted bytea, token_nonce bytea)")
        self.sql("INSERT INTO credentials (token) SELECT 'token-' || n || '-' || md5(n::text) FROM generate_series(1, %s) n", rows)

    def rows(self) -> list[Row4]:
        """Key, clear text, ciphertext and nonce; the key is whatever type the table gives it."""
        return [tuple(row) for row in self.sql("SELECT id, token, token_encrypted, token_nonce FROM credentials ORDER BY id")]

    def stale(self) -> list[Any]:
        """Rows that do not decrypt to their clear text."""
        stale = []
        for key, token, ciphertext, nonce in self.rows():
            try:
                right = opened(ciphertext, nonce) == token
            except InvalidTag:
                right = False
            if not right:
                stale.append(key)
        return stale

    def lost(self, writes: Writes, key: bytes = KEY) -> tuple[list[int], list[int]]:
        """Of the rows that had a text or got one: where the ciphertext opens to an older text, and where the last text stands in no column."""
        stale, lost = [], []
        for number, token, ciphertext, nonce in self.rows():
            last = writes.last.get(number)
            read = opened(ciphertext, nonce, key)
            if last is not None and read is not None and read != last:
                stale.append(number)
            if last is not None and last not in (token, read):
                lost.append(number)
        return stale, lost

    def triggers(self) -> list[str]:
        return [row[0] for row in self.sql("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1")]


@dataclasses.dataclass(frozen=True)
class ModuleRun:
    """Runs a module in this process, as Ansible would, and returns its JSON."""

    database: str
    capsys: pytest.CaptureFixture[str]

    def __call__(self, module: types.ModuleType = token_encryption, *, check: bool = False, **options: object) -> dict[str, Any]:
        arguments = {"database_url": self.database, "table": "credentials", "encryption_keys": [text_of(KEY)], **options, "_ansible_check_mode": check}
        with patch_module_args({name: value for name, value in arguments.items() if value is not None}), pytest.raises(SystemExit):
            module.main()
        output = self.capsys.readouterr()
        assert text_of(KEY) not in output.out + output.err
        result: dict[str, Any] = json.loads(output.out)
        result.pop("invocation", None)
        return result

    def info(self, **options: object) -> dict[str, Any]:
        """The same for token_encryption_info."""
        return self(token_encryption_info, check=False, **options)


def options(*, check_mode: bool = False, **given: object) -> Options:
    defaults = {name: option.get("default") for name, option in token_encryption_argument_spec().options.items()}
    return Options.from_params({**defaults, **COLUMNS, "encryption_keys": [text_of(KEY)], **given}, check_mode=check_mode)


def table_of(cursor: Cursor) -> Table:
    return read_table(cursor, names_from_params(COLUMNS))


@contextlib.contextmanager
def application(credentials: Credentials, *, both: bool, seed: int, key: bytes = KEY) -> collections.abc.Iterator[Writes]:
    """An application that changes random tokens of 5,000 all the time, *both* columns under *key*."""
    before = {number: token for number, token, *_unused in credentials.rows() if token is not None}
    with token_application.application(credentials.url, both=both, seed=seed, key=key) as writes:
        writes.last.update(before)
        yield writes


def say(figure: str) -> None:
    """Shown with -s and where a test fails; a module's own output, which sys.stdout has, stays as it is."""
    print(figure, file=sys.__stderr__)


def fast_enough(writes: Writes, what: str) -> None:
    """The application wrote during the work, and as fast as the contract says where the full counts are taken; prints how fast."""
    say(f"{what}: {', '.join(f'{rate:.0f}' for rate in writes.rates)} writes/s during the work")
    assert min(writes.rates) >= (MIN_WRITES if FULL else 1)
