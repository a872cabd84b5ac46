# SPDX-License-Identifier: GPL-3.0-or-later
"""The encrypted undo file of token_encryption: what it restores, and what damage, kills and a full disk leave of it."""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import json
import stat
from pathlib import Path
from typing import Any

import pyrage
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyrage import x25519

from ..conftest import FULL
from .token_table import KEY, OTHER_KEY, Credentials, ModuleRun, opened, options, sealed, text_of

IDENTITY = x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "undo" / "credentials.jsonl"


def writing(path: Path, *recipients: str) -> dict[str, object]:
    return {"path": str(path), "recipients": list(recipients or (RECIPIENT,))}


def reading(path: Path, identity: x25519.Identity = IDENTITY) -> dict[str, object]:
    return {"path": str(path), "identity": str(identity)}


def test_the_file_restores_without_the_token_key_what_was_cleared(credentials: Credentials, run: ModuleRun, path: Path) -> None:
    credentials.create(2500)
    credentials.sql("UPDATE credentials SET token = E'tab\\tline\\n\\u2028 \\\\N \u2713' WHERE id = 1")
    credentials.sql("UPDATE credentials SET token = '' WHERE id = 2")
    credentials.sql("UPDATE credentials SET token = NULL WHERE id = 3")
    expected = [row[:2] for row in credentials.rows()]
    assert run(backup=writing(path), check=True)["backup"] == {"path": str(path), "rows": 0}
    assert not path.exists()
    first = run(backup=writing(path), workers=2)
    assert first["backup"] == {"path": str(path), "rows": 2499}
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    content = path.read_bytes()
    assert [token for _key, token in expected if token and token.encode() in content] == []
    assert run(backup=writing(path))["changed"] is False
    assert path.read_bytes() == content
    run(state="cleared")
    assert {token for _key, token, *_unused in credentials.rows()} == {None}

    restore: dict[str, Any] = {"state": "decrypted", "encryption_keys": None, "backup": reading(path)}
    assert run(**restore, check=True)["decrypted"] == 2499
    undone = run(**restore, batch_size=300)
    assert (undone["changed"], undone["decrypted"], undone["clear_values"]) == (True, 2499, 2499)
    assert [row[:2] for row in credentials.rows()] == expected
    assert credentials.stale() == []
    assert run(**restore)["changed"] is False


def test_what_is_newer_than_the_file_is_never_overwritten(credentials: Credentials, run: ModuleRun, path: Path) -> None:
    credentials.create(10)
    run(backup=writing(path), guard_trigger=False)
    run(state="cleared")
    ciphertext, nonce = sealed("renewed since")
    credentials.sql("UPDATE credentials SET token_encrypted = %s, token_nonce = %s WHERE id = 4", ciphertext, nonce)
    credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL WHERE id = 5")
    credentials.sql("UPDATE credentials SET token = 'clear again' WHERE id = 6")
    credentials.sql("DELETE FROM credentials WHERE id = 7")
    result = run(state="decrypted", encryption_keys=None, backup=reading(path))
    assert "6 rows of public.credentials got their clear text back, 1 did not" in result["msg"]
    assert credentials.sql("SELECT id, token FROM credentials WHERE id IN (4, 5, 6)") == [(4, None), (5, None), (6, "clear again")]
    # The key decrypts what the file does not hold, and what differs.
    credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL WHERE id = 6")
    assert run(state="decrypted", backup=reading(path))["decrypted"] == 1
    assert credentials.sql("SELECT token FROM credentials WHERE id = 4") == [("renewed since",)]


def test_clearing_writes_down_what_the_application_encrypted_itself(credentials: Credentials, run: ModuleRun, path: Path) -> None:
    credentials.create(4)
    run(guard_trigger=False)
    assert run(state="cleared", backup=writing(path))["backup"]["rows"] == 4
    assert run(state="decrypted", encryption_keys=None, backup=reading(path))["decrypted"] == 4
    assert credentials.stale() == []


def test_a_reader_needs_age_and_cryptography_alone(credentials: Credentials, run: ModuleRun, path: Path) -> None:
    """The ten lines of docs/token-format.md."""
    credentials.create(3)
    run(backup=writing(path))
    document = (Path(__file__).parents[2] / "docs" / "token-format.md").read_text(encoding="utf-8")
    space: dict[str, Any] = {}
    exec(document.split("<!-- undo reader -->\n```python\n")[1].partition("```")[0], space)
    assert [(row[0], row[-2]) for row in space["read_undo_file"](str(path), str(IDENTITY))] == [
        (str(key), token) for key, token, *_unused in credentials.rows()
    ]


@pytest.mark.parametrize("damage", ["cut", "no end", "bit", "line gone", "lines swapped"])
def test_a_file_that_is_not_whole_is_refused_before_the_first_write(credentials: Credentials, run: ModuleRun, path: Path, damage: str) -> None:
    credentials.create(50)
    run(backup=writing(path), batch_size=10)
    run(state="cleared")
    before = credentials.rows()
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7
    flipped = lines[3].replace(b"A", b"B", 1) if b"A" in lines[3] else lines[3].replace(b"C", b"D", 1)
    path.write_bytes(
        {
            "cut": b"".join(lines)[:-90],
            "no end": b"".join(lines[:-1]),
            "bit": b"".join([*lines[:3], flipped, *lines[4:]]),
            "line gone": b"".join([*lines[:3], *lines[4:]]),
            "lines swapped": b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]),
        }[damage]
    )
    result = run(state="decrypted", encryption_keys=None, backup=reading(path))
    assert result["msg"].startswith(f"The undo file {path} ")
    assert "Nothing was written." in result["msg"]
    assert credentials.rows() == before
    if damage in ("cut", "no end"):
        assert run(state="decrypted", encryption_keys=None, backup=reading(path), accept_loss=True)["decrypted"] == 50


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"backup": {"path": "PATH"}}, "backup has no recipients"),
        ({"backup": {"path": "PATH", "recipients": ["age1nonsense"]}}, "The recipient 'age1nonsense' is not an age public key"),
        ({"backup": {"path": "PATH", "recipients": [RECIPIENT], "identity": str(x25519.Identity.generate())}}, "belongs to none of backup.recipients"),
        ({"backup": {"path": "PATH", "recipients": [RECIPIENT]}, "state": "decrypted"}, "backup has no identity"),
        ({"backup": {"path": "PATH", "identity": str(IDENTITY)}, "state": "decrypted"}, "cannot be read: No such file"),
        ({"backup": {"path": "/proc/nowhere/undo", "recipients": [RECIPIENT]}}, "could not be written: No such file"),
    ],
)
def test_what_the_file_lacks_is_named(credentials: Credentials, run: ModuleRun, path: Path, options: dict[str, Any], problem: str) -> None:
    credentials.create(3)
    backup = {**options["backup"], "path": options["backup"]["path"].replace("PATH", str(path))}
    result = run(**{**options, "backup": backup})
    assert problem in result["msg"]
    assert set(result["remedy"]) == {"en", "pt_BR"}
    assert credentials.sql("SELECT count(token_encrypted) FROM credentials") == [(0,)]


def test_the_file_of_another_table_or_for_another_identity_is_refused(credentials: Credentials, run: ModuleRun, path: Path) -> None:
    credentials.create(3)
    run(backup=writing(path))
    content = path.read_bytes()
    other = run(state="decrypted", encryption_keys=None, backup=reading(path, x25519.Identity.generate()))
    assert f"backup.identity does not open the undo file {path}, which was written for {RECIPIENT}" in other["msg"]
    credentials.sql("CREATE TABLE others (LIKE credentials INCLUDING ALL); INSERT INTO others (id, token) VALUES (1, 'x')")
    assert "is no undo file of public.others: it has table 'public.credentials'" in run(table="others", backup=writing(path))["msg"]
    assert path.read_bytes() == content
    path.write_text("something precious")
    credentials.sql("UPDATE credentials SET token_encrypted = NULL")
    assert "it has another kind of file" in run(backup=writing(path))["msg"]
    assert path.read_text() == "something precious"


def test_each_run_adds_a_segment_that_any_of_its_recipients_reads(credentials: Credentials, run: ModuleRun, path: Path) -> None:
    second = x25519.Identity.generate()
    credentials.create(20)
    run(backup=writing(path))
    credentials.sql("UPDATE credentials SET token = 'written since' WHERE id = 9")
    assert run(backup=writing(path, RECIPIENT, str(second.to_public())))["backup"]["rows"] == 1
    # Torn by a kill: the next run ends the line, and the file.
    with path.open("ab") as stream:
        stream.write(path.read_bytes().splitlines()[0] + b"\n" + b'{"rows":"torn')
    assert "was killed" in run(state="decrypted", encryption_keys=None, backup=reading(path))["msg"]
    assert run(backup=writing(path))["changed"] is False
    run(state="cleared")
    assert run(state="decrypted", encryption_keys=None, backup=reading(path))["decrypted"] == 20
    assert credentials.stale() == []
    assert credentials.sql("SELECT token FROM credentials WHERE id = 9") == [("written since",)]


class _StopError(Exception):
    """Ends a run in the middle."""


def stopping(after: int) -> collections.abc.Callable[[float], None]:
    """A pause that ends the run once it has come so often."""
    left = [after]

    def sleep(_seconds: float) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _StopError

    return sleep


STATES = st.sampled_from(["encrypted", "rotated", "cleared", "decrypted"])


@settings(max_examples=10 if not FULL else 200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(STATES, st.integers(0, 8), st.integers(1, 9), st.integers(1, 2)), max_size=6),
    text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_any_interleaving_of_runs_that_end_anywhere_keeps_every_token(
    credentials: Credentials, path: Path, steps: list[tuple[str, int, int, int]], text: str
) -> None:
    path.unlink(missing_ok=True)
    credentials.sql("DROP TABLE IF EXISTS credentials")
    credentials.create(20)
    credentials.sql("UPDATE credentials SET token = %s WHERE id = 1", text)
    credentials.sql("UPDATE credentials SET token = repeat('m', 1000000) WHERE id = 2")
    expected = [row[:2] for row in credentials.rows()]
    keys: dict[str, Any] = {"encryption_keys": [text_of(KEY), text_of(OTHER_KEY)], "accept_encrypted_looking": True}
    for state, after, batch_size, workers in steps:
        asked: dict[str, Any] = {**keys, "state": state, "batch_size": batch_size, "workers": workers, "pause": 0.001}
        if state != "decrypted":
            asked["backup"] = writing(path)
        # A table that is not all encrypted is not cleared.
        with contextlib.suppress(_StopError, LastroError):
            converge(parse_url(credentials.url), options(**asked), progress=silent, sleep=stopping(after))
        assert [(one[0], one[1] or opened(one[2], one[3])) if one[1] is None else one[:2] for one in credentials.rows()] == expected
    last = {**keys, "backup": writing(path)}
    assert converge(parse_url(credentials.url), options(**last), progress=silent)["verified"] == 20
    converge(parse_url(credentials.url), options(**last, state="cleared"), progress=silent)
    restore = options(state="decrypted", encryption_keys=None, backup=reading(path))
    converge(parse_url(credentials.url), restore, progress=silent)
    assert [row[:2] for row in credentials.rows()] == expected


def test_the_files_key_is_not_the_token_key(credentials: Credentials, run: ModuleRun, path: Path) -> None:
    credentials.create(1)
    run(backup=writing(path))
    header = json.loads(path.read_bytes().splitlines()[0])
    key = pyrage.decrypt(base64.b64decode(header["file_key"]), [IDENTITY])
    assert len(key) == 32
    assert key not in (KEY, OTHER_KEY)
    assert AESGCM(key)
    assert text_of(KEY).encode() not in path.read_bytes()
