# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic_info as a task: squawk on the controller adds what our own rules do not have, and both together are judged."""

from __future__ import annotations

import collections.abc
from pathlib import Path

import pytest

from .alembic_project import App
from .conftest import Player

Players = collections.abc.Callable[[dict[str, object]], Player]


@pytest.mark.parametrize("denied", [[], ["ban-char-field"]])
def test_squawk_speaks_on_the_controller(player: Players, tmp_path: Path, database: str, denied: list[str]) -> None:
    app = App.create(tmp_path / "release", database, {"s1": ("op.execute('CREATE TABLE pets (id bigint PRIMARY KEY, code char(3))')", "op.drop_table('pets')")})
    task = {"lastro.deploy.alembic_info": app.options(lint={"profile": "strict", "deny": denied}), "register": "answer"}
    played = player({})(task, facts=["answer"], fails=bool(denied))
    if denied:
        assert "ban-char-field" in played.output
        return
    assert played.facts["answer"]["lint"]["engine"] == "lastro+squawk"
    assert ("ban-char-field", "squawk") in [(one["rule"], one["engine"]) for one in played.facts["answer"]["findings"]]
