# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the module pg_dump share: a call of it, and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.modules import pg_dump
from demo.postgres import bin_directory

SECRET = "a-clear-token-that-must-not-be-seen"


@dataclasses.dataclass(frozen=True)
class Dump:
    """Calls the module for *database*; its result, whether it failed or not."""

    capsys: pytest.CaptureFixture[str]
    database: str
    dest: Path
    recipient: str

    def __call__(self, *, check: bool = False, **options: object) -> dict[str, t.Any]:
        arguments: dict[str, object] = {
            "database_url": self.database,
            "dest": str(self.dest),
            "name": "b1",
            "recipients": [self.recipient],
            "bin_dir": str(bin_directory()),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            **options,
        }
        with patch_module_args({name: value for name, value in arguments.items() if value is not None}), pytest.raises(SystemExit):
            pg_dump.main()
        result: dict[str, t.Any] = json.loads(self.capsys.readouterr().out)
        assert self.database not in json.dumps(result)
        return result


def names(directory: Path) -> list[str]:
    """What is in *directory*, hidden files as well."""
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []
