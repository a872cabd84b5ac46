# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend of new_secrets: the plan, the keys, the files."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
import yaml
from ansible_collections.lastro.deploy.plugins.module_utils import _new_secrets
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError


def test_keys_are_the_random_bytes() -> None:
    values = iter([bytes(range(32)), bytes(range(32, 64))])
    secrets = _new_secrets.generate(["a", "b"], lambda count: next(values)[:count])
    variables = yaml.safe_load(secrets.vault)
    assert list(variables) == ["vault_backup_identity", "a", "b"]
    assert base64.urlsafe_b64decode(variables["a"]) == bytes(range(32))
    assert base64.urlsafe_b64decode(variables["b"]) == bytes(range(32, 64))
    assert variables["a"] not in repr(secrets)
    assert variables["vault_backup_identity"] not in repr(secrets) + secrets.recipients
    assert yaml.safe_load(secrets.recipients)["backup_recipients"][0].startswith("age1")


@pytest.mark.parametrize("keys", [["a b"], ["1a"], ["a", "a"], ["vault_backup_identity"], [""], ["a\n"]])
def test_bad_names(keys: list[str], tmp_path: Path) -> None:
    with pytest.raises(LastroError, match="keys holds"):
        _new_secrets.make_plan(tmp_path, keys)


@pytest.mark.parametrize("present", [["vault.yml"], ["recipients.yml"], ["vault.yml", "recipients.yml"]])
def test_nothing_is_overwritten(present: list[str], tmp_path: Path) -> None:
    for name in present:
        (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(LastroError, match="never overwritten") as caught:
        _new_secrets.make_plan(tmp_path, ["a"])
    assert all(str(tmp_path / name) in caught.value.message for name in present)


def test_files(tmp_path: Path) -> None:
    plan = _new_secrets.make_plan(tmp_path / "new" / "all", ["a"])
    _new_secrets.write(plan, b"encrypted", "clear")
    assert [Path(path).read_bytes() for path in plan.files] == [b"encrypted", b"clear"]
    assert [stat.S_IMODE(Path(path).stat().st_mode) for path in plan.files] == [0o600, 0o644]


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = _new_secrets.make_plan(tmp_path / "file" / "all", ["a"])
    with pytest.raises(LastroError, match="cannot be written: Not a directory") as caught:
        _new_secrets.write(plan, b"", "")
    assert caught.value.remedy.pt_BR


def test_without_pyrage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_new_secrets, "x25519", None)
    with pytest.raises(LastroError, match="pip install pyrage"):
        _new_secrets.generate(["a"], bytes)
