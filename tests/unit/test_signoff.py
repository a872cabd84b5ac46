# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign-offs: who agreed to which release, and who has not."""

from __future__ import annotations

import collections.abc
import json
import stat
import typing as t
from pathlib import Path

from ansible_collections.lastro.deploy.plugins.modules import signoff

CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def lines(state_dir: Path) -> list[dict[str, t.Any]]:
    return [json.loads(line) for line in (state_dir / "signoffs.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_person_signs_a_release(tmp_path: Path, call_module: CallModule) -> None:
    state_dir = tmp_path / "state"
    options = {"state_dir": str(state_dir), "release": "r2", "name": "tech_lead", "by": "Zoë", "comment": "read the diff"}
    checked = call_module(signoff, check=True, **options)
    assert (checked["changed"], checked["signoffs"][0]["by"], state_dir.exists()) == (True, "Zoë", False)
    signed = call_module(signoff, **options)
    (line,) = lines(state_dir)
    assert signed["signoffs"] == [line]
    assert {**line, "time": ""} == {"name": "tech_lead", "by": "Zoë", "release": "r2", "comment": "read the diff", "time": ""}
    assert stat.S_IMODE((state_dir / "signoffs.jsonl").stat().st_mode) == 0o600
    # The same words again are no news; another person's, and another release's, are.
    assert call_module(signoff, **options)["changed"] is False
    assert call_module(signoff, **{**options, "by": "Ana"})["changed"] is True
    assert call_module(signoff, **{**options, "release": "r3"})["signoffs"][0]["release"] == "r3"
    assert [(line["by"], line["release"]) for line in lines(state_dir)] == [("Zoë", "r2"), ("Ana", "r2"), ("Zoë", "r3")]


def test_missing_ones_are_named(tmp_path: Path, call_module: CallModule) -> None:
    options = {"state_dir": str(tmp_path), "release": "r2", "required": ["tech_lead", "devops", "qa"]}
    call_module(signoff, state_dir=str(tmp_path), release="r1", name="qa", by="Eva")  # for another release
    reported = call_module(signoff, **options, report_only=True, name="devops", by="Ivo")
    assert (reported["missing"], reported["checked"], reported["changed"]) == (["tech_lead", "qa"], 3, True)
    assert [finding["problem"] for finding in reported["findings"]] == ["tech_lead has not signed r2 off.", "qa has not signed r2 off."]
    assert "approve_name=qa" in reported["findings"][1]["remedy"]["pt_BR"]
    refused = call_module(signoff, **options)
    assert refused["failed"] and refused["missing"] == ["tech_lead", "qa"]
    assert refused["problem"] == "Not signed off by tech_lead, qa."
    for name in ("tech_lead", "qa"):
        call_module(signoff, state_dir=str(tmp_path), release="r2", name=name, by="Ana")
    complete = call_module(signoff, **options)
    assert (complete["missing"], complete["findings"], complete["changed"]) == ([], [], False)


def test_nobody_cannot_sign(tmp_path: Path, call_module: CallModule) -> None:
    refused = call_module(signoff, state_dir=str(tmp_path / "state"), release="r2", name="qa", by=" ")
    assert refused["failed"] and "by is empty" in refused["msg"]
    assert not (tmp_path / "state").exists()


def test_a_torn_line_and_a_directory_that_cannot_be(tmp_path: Path, call_module: CallModule) -> None:
    (tmp_path / "signoffs.jsonl").write_text('{"name": "qa", "by": "Eva", "rel', encoding="utf-8")
    assert call_module(signoff, state_dir=str(tmp_path), release="r2", name="qa", by="Eva")["signoffs"][0]["by"] == "Eva"
    (tmp_path / "file").touch()
    refused = call_module(signoff, state_dir=str(tmp_path / "file"), release="r2", name="qa", by="Eva")
    assert refused["failed"] and "cannot be written" in refused["msg"]
