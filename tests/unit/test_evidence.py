# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence between environments: what is signed is believed, anything else is not."""

from __future__ import annotations

import collections.abc
import datetime
import hashlib
import hmac
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _evidence
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import evidence as evidence_module

KEY = "k" * 43
SHA256 = "3f9c" * 16
NOW = datetime.datetime(2026, 11, 22, 3, 0, tzinfo=datetime.UTC)
CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def options(directory: Path, **other: object) -> dict[str, t.Any]:
    return {
        "state": "present",
        "dir": str(directory),
        "key": KEY,
        "app": "calendar-api",
        "environment": "staging",
        "version": "r2",
        "sha256": SHA256,
        "release": "r2-3f9c2e1",
        "run_id": "20261122T030000-7c1f",
        "outcome": "deployed",
        "gates": [{"name": "errors", "verdict": "pass", "worst": 0.0}],
        "max_age": "7d",
        "report_only": False,
        **other,
    }


def proved(directory: Path, **other: object) -> Path:
    _evidence.run(options(directory, **other), write_it=True, now=lambda: NOW)
    return _evidence.evidence_file(directory, "calendar-api", "staging", SHA256)


def demanded(directory: Path, *, days: float = 1, **other: object) -> dict[str, t.Any]:
    return _evidence.run(options(directory, state="demanded", **other), write_it=True, now=lambda: NOW + datetime.timedelta(days=days))


def test_what_was_proved_is_found(tmp_path: Path) -> None:
    path = proved(tmp_path)
    assert demanded(tmp_path) == {"changed": False, "path": str(path), "checked": 1, "findings": []}
    assert KEY not in path.read_text(encoding="utf-8")


def test_the_format_is_the_one_of_the_documentation(tmp_path: Path) -> None:
    evidence = json.loads(proved(tmp_path).read_bytes())
    claimed = evidence.pop("hmac")
    text = json.dumps(evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert claimed == hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()
    assert (evidence["format"], evidence["finished"], evidence["gates"][0]["verdict"]) == (1, "2026-11-22T03:00:00.000000Z", "pass")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "staging has not proved this artifact of r2: there is no "),
        ({"environment": "demo"}, "demo has not proved this artifact of r2: there is no "),
        ({"key": "another" * 6}, "was signed with another key, or changed since"),
        ({"days": 8}, "what staging proved on 2026-11-22 is older than 7d"),
        ({"max_age": "90m"}, "is older than 90m"),
    ],
)
def test_what_was_not_proved(change: dict[str, t.Any], message: str, tmp_path: Path) -> None:
    proved(tmp_path)
    finding = demanded(tmp_path, **change, report_only=True)["findings"][0]
    assert message in finding["problem"]
    assert "ansible-playbook deploy.yml -i " in finding["remedy"]["en"] and "Faça antes o deploy" in finding["remedy"]["pt_BR"]
    assert KEY not in json.dumps(finding) and "another" * 6 not in json.dumps(finding)
    with pytest.raises(LastroError, match="prov"):
        demanded(tmp_path, **{**change, "key": KEY, "days": change.get("days", 1), "sha256": change.get("sha256", "1" * 64)})


@pytest.mark.parametrize(
    "change", [{"outcome": "rolled_back"}, {"sha256": "0" * 64}, {"finished": "2027-01-01T00:00:00.000000Z"}, {"hmac": None}, {"gates": []}]
)
def test_a_changed_file_is_not_believed(change: dict[str, t.Any], tmp_path: Path) -> None:
    path = proved(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}), encoding="utf-8")
    assert "changed since" in demanded(tmp_path, report_only=True)["findings"][0]["problem"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'"x"', b"null"])
def test_anything_else_is_no_evidence(content: bytes, tmp_path: Path) -> None:
    proved(tmp_path).write_bytes(content)
    assert demanded(tmp_path, report_only=True)["findings"]


def test_a_proof_of_another_artifact_under_this_name(tmp_path: Path) -> None:
    path = proved(tmp_path)
    other = _evidence.evidence_file(tmp_path, "calendar-api", "staging", "0" * 64)
    path.rename(other)
    assert "speaks of another artifact" in demanded(tmp_path, sha256="0" * 64, report_only=True)["findings"][0]["problem"]


def test_a_run_that_did_not_end_well_proves_nothing(tmp_path: Path) -> None:
    proved(tmp_path, outcome="rolled_back")
    assert "ended as rolled_back" in demanded(tmp_path, report_only=True)["findings"][0]["problem"]
    proved(tmp_path, outcome="nothing_to_do")
    assert demanded(tmp_path)["findings"] == []


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "calendar-api").write_text("", encoding="utf-8")
    with pytest.raises(LastroError, match="calendar-api"):
        proved(tmp_path)


def test_module(tmp_path: Path, call_module: CallModule) -> None:
    present = {name: value for name, value in options(tmp_path / "evidence").items() if name != "max_age"}
    assert call_module(evidence_module, check=True, **present)["changed"] is True
    assert not (tmp_path / "evidence").exists()
    assert Path(call_module(evidence_module, **present)["path"]).is_file()
    assert call_module(evidence_module, **{**present, "state": "demanded"})["findings"] == []
    short = call_module(evidence_module, **{**present, "key": "hunter-eleven"})
    assert short["failed"] and "key has 13 characters, fewer than 32." in short["msg"] and "hunter" not in json.dumps(short)
