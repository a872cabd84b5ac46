# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule only warns where a step's playbook is missing; here it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

SCENARIOS = sorted((Path(__file__).resolve().parents[2] / "molecule").iterdir())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_each_step_has_its_playbook_and_each_playbook_its_step(scenario: Path) -> None:
    settings = yaml.safe_load((scenario / "molecule.yml").read_text(encoding="utf-8"))
    steps = [step.split() for step in settings["scenario"]["test_sequence"]]
    named = {step[1] if len(step) > 1 else f"{step[0]}.yml".replace("idempotence", "converge") for step in steps}
    texts = {path.name: path.read_text(encoding="utf-8") for path in scenario.glob("*.yml") if path.name != "molecule.yml"}
    playbooks = {name for name, text in texts.items() if "hosts:" in text or "import_playbook:" in text}
    imported = {line.split()[-1] for text in texts.values() for line in text.splitlines() if "import_playbook:" in line}
    assert named <= playbooks
    assert playbooks <= named | imported
