# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the README in both languages and docs/ say, against the code that they speak of."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.lastro.deploy.plugins.action import journal
from ansible_collections.lastro.deploy.plugins.module_utils import _decide, _journal, _plan, _texts

ROOT = Path(__file__).resolve().parents[2]
READMES = {"en": ROOT / "README.md", "pt_BR": ROOT / "README.pt-BR.md"}
PAGES = sorted([*READMES.values(), *(ROOT / "docs").rglob("*.md")])
DEFAULTS: dict[str, t.Any] = yaml.safe_load((ROOT / "roles" / "deploy" / "defaults" / "main.yml").read_text(encoding="utf-8"))
PHASES_OF_LATER = ("load",)

R2, R3 = {"id": "r2-00949af", "version": "r2"}, {"id": "r3-82ea554", "version": "r3"}
RUN_ID = "20261126T032709-a102"
TOKENS = {"table": "credentials", "total": 50_000, "encrypted": 0, "already": 50_000, "verified": 50_000, "clear_left": 0}
NO_MAINTENANCE = {"en": "the pending revisions let the application run", "pt_BR": "as revisões pendentes deixam a aplicação rodar"}
FITS = _decide.decide(_decide.Facts(switched=True, target=R2["id"])).reason._asdict()
SMOKE = {
    "problem": "GET /api/schedule: 500, expected 200 (3 of 3 tries)",
    "remedy": {
        "en": "Look at the application's log at the time of the request; if the check itself is wrong, correct it in the profile.",
        "pt_BR": "Veja o log da aplicação no horário da requisição; se a própria verificação está errada, corrija-a no perfil.",
    },
}
BACKUP = {"size": 7_900_000, "raw_size": 17_000_000, "verified": ["read", "decode"], "tables": 4, "hashes": "rows"}
# A run of the demo: r3 fails in smoke and goes back. (phase, status, seconds, evidence, what else the record says)
SAMPLE: list[tuple[str, str, float, dict[str, t.Any], dict[str, t.Any]]] = [
    ("open", "ok", 0.8, {"left_over": []}, {}),
    ("preflight", "ok", 4.0, {"checks": 13, "hosts": ["demo"], "findings": []}, {}),
    ("stage", "ok", 9.7, {"release": R3, "files": 28, "wheels": 0, "hosts": ["demo"]}, {}),
    ("backup", "ok", 2.1, BACKUP, {}),
    ("maintenance_enter", "skipped", 1.3, {"wanted": False, "reason": NO_MAINTENANCE}, {}),
    ("migrate", "skipped", 1.2, {"skipped_because": "nothing pending"}, {}),
    ("protect", "ok", 2.1, {"tables": [TOKENS]}, {}),
    ("validate", "ok", 1.5, {"total": 2, "valid": 2, "used": 2}, {}),
    ("switch", "ok", 12.3, {"hosts": ["demo"], "release": R3, "slot": "green"}, {}),
    ("protect_finish", "ok", 2.3, {"tables": [TOKENS]}, {}),
    ("smoke", "failed", 5.5, {}, SMOKE),
    ("rollback", "ok", 25.3, {"scope": "code", "reason": FITS, "release": R2}, {}),
]


def text_of(path: Path) -> str:
    """A page."""
    return path.read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of each code block."""
    return [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def prose(text: str) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[str]:
    """The marks of its headings: #, ##, ..."""
    return re.findall(r"^(#+) ", prose(text), re.MULTILINE)


def links(text: str) -> list[str]:
    """Where its relative links lead."""
    found = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", prose(text))
    return [link for link in found if not re.match(r"[a-z]+:|//", link)]


def anchors(path: Path) -> set[str]:
    """The anchors that a web page gives its headings."""
    titles = re.findall(r"^#+ (.*)$", prose(text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in prose(text).splitlines() if line.startswith("|")]


def sample(language: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The run in SAMPLE as the operator sees it, by the code that shows it."""
    lines = [_texts.run_title({"app": "calendar-api", "environment": "demo", "release": R3, "run_id": RUN_ID}, language)]
    monkeypatch.setattr(journal.display, "display", lambda text, color=None: lines.append(text))
    for phase, status, seconds, evidence, more in SAMPLE:
        record = {"kind": "result", "phase": phase, "status": status, "evidence": evidence, **more}
        journal.ActionModule._show(record, seconds, language)
    lines.append(_texts.outcome_line({"outcome": "rolled_back", "serves": R2, "report": f".demo/state/reports/{RUN_ID}.html"}, language))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("language", READMES)
def test_readme_shows_what_a_run_prints(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sample(language, monkeypatch)
    assert ("text", expected) in blocks(text_of(READMES[language])), f"The sample output of the README has to be:\n{expected}"


def test_both_readmes_have_the_same_structure() -> None:
    english, portuguese = (text_of(path) for path in READMES.values())
    assert headings(english) == headings(portuguese)
    assert [len(row) for row in rows(english)] == [len(row) for row in rows(portuguese)]
    assert sorted(set(links(english)) - {"README.pt-BR.md"}) == sorted(set(links(portuguese)) - {"README.md"})


def test_both_readmes_have_the_same_code() -> None:
    english, portuguese = (blocks(text_of(path)) for path in READMES.values())
    assert [language for language, _unused in english] == [language for language, _unused in portuguese]
    for (language, one), (_unused, other) in zip(english, portuguese, strict=True):
        if language == "text":
            assert len(one.splitlines()) == len(other.splitlines())
        else:
            assert re.sub(r" *#.*", "", one) == re.sub(r" *#.*", "", other)


def test_picture_of_the_phases_has_each_in_order() -> None:
    for path in READMES.values():
        picture = next(content for language, content in blocks(text_of(path)) if language == "text" and "┌" in content)
        named = [phase for phase in re.findall(r"[a-z_]+", picture) if phase in _journal.PHASES]
        assert [phase for phase in named if phase not in _journal.ALWAYS] == [phase for phase in _journal.PHASES if phase not in _journal.ALWAYS]
        assert set(named) == set(_journal.PHASES)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(text_of(path)):
        name, _unused, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{link}: there is no {target.relative_to(ROOT)}"
        if anchor:
            assert anchor in anchors(target), f"{link}: no heading gives this anchor"


def documented_options() -> dict[str, list[str]]:
    """option -> [type, default, meaning, example] of docs/profile.md."""
    return {row[0].strip("`"): row[1:] for row in rows(text_of(ROOT / "docs" / "profile.md")) if row[0].startswith("`deploy_")}


def test_profile_has_every_option_with_its_default() -> None:
    documented = documented_options()
    assert set(DEFAULTS) <= set(documented), sorted(set(DEFAULTS) - set(documented))
    for name, default in DEFAULTS.items():
        cells = documented[name]
        assert len(cells) == 4, name
        assert all(cells), name
        assert yaml.safe_load(cells[1].strip("`")) == default, f"{name}: the default is {default!r}"


def test_profile_has_no_other_option() -> None:
    others = set(documented_options()) - set(DEFAULTS)
    assert others == _plan.RUN_TIME_INPUTS | _plan.HOST_OPTIONS


def test_examples_of_the_profile_are_yaml() -> None:
    for name, cells in documented_options().items():
        example = cells[3].strip("`").replace("\\|", "|")
        loaded = yaml.safe_load(example)
        assert loaded not in (None, ""), name
    for language, content in blocks(text_of(ROOT / "docs" / "profile.md")):
        if language == "yaml":
            assert set(yaml.safe_load(content)) <= set(DEFAULTS), content


def test_walk_through_is_a_profile_without_findings() -> None:
    profile: dict[str, t.Any] = {"deploy_environment": "prod", "deploy_proxy": DEFAULTS["deploy_proxy"]}
    for language, content in blocks(text_of(ROOT / "docs" / "your-app.md")):
        if language == "yaml":
            profile |= yaml.safe_load(content)
    groups = {"app": ["app1"], "proxy": ["app1"], "primary": ["app1"]}
    assert [str(finding) for finding in _plan.findings(profile, groups, DEFAULTS, {})] == []


def test_every_phase_has_its_page_and_its_row() -> None:
    table = text_of(ROOT / "docs" / "phases" / "README.md")
    listed = re.findall(r"^\| \d* ?\|? ?\[(\w+)\]\((\w+)\.md\)", table, re.MULTILINE)
    assert [name for name, _unused in listed] == [page for _unused, page in listed] == list(_journal.PHASES)
    assert {path.stem for path in (ROOT / "docs" / "phases").glob("*.md")} == {"README", *_journal.PHASES}


@pytest.mark.parametrize("phase", _journal.PHASES)
def test_page_of_a_phase_says_the_same_things(phase: str) -> None:
    page = text_of(ROOT / "docs" / "phases" / f"{phase}.md")
    assert page.startswith(f"# {phase}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["What it does", "Where it runs", "What it proves", "What can go wrong", "Options"]
    for option in re.findall(r"`(deploy_\w+)", page):
        assert option in DEFAULTS or option in _plan.RUN_TIME_INPUTS | _plan.HOST_OPTIONS, option


def test_every_playbook_is_named() -> None:
    said = "\n".join(text_of(path) for path in PAGES if "modules" not in path.parts)
    missing = [path.name for path in (ROOT / "playbooks").glob("*.yml") if path.name not in said and f"lastro.deploy.{path.stem}" not in said]
    assert not missing


def test_every_outcome_is_explained() -> None:
    explained = [row[0].strip("`") for row in rows(text_of(ROOT / "docs" / "output.md"))]
    assert set(_journal.OUTCOMES) <= set(explained)


def test_every_mark_is_explained() -> None:
    explained = [row[0].strip("`") for row in rows(text_of(ROOT / "docs" / "output.md"))]
    assert set(_texts.MARKS.values()) <= set(explained)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_no_machine(path: Path) -> None:
    text = text_of(path)
    assert str(ROOT) not in text
    assert "/root/" not in text
    assert "/home/" not in text


def test_what_comes_later_is_not_promised() -> None:
    for path in READMES.values():
        section = re.split(r"^## (?:Not yet|Ainda não)$", text_of(path), flags=re.MULTILINE)
        assert len(section) == 2
        for word in PHASES_OF_LATER:
            assert f"`{word}`" not in section[0]
            assert f"`{word}`" in section[1]
