# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of a schedule: systemd takes its units, and what they and AWX start is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SCHEDULE = ROOT / "examples" / "schedule"
UNITS = sorted(path for path in SCHEDULE.iterdir() if path.suffix in (".service", ".timer"))
PLAYBOOKS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # The program of this environment, since systemd looks whether it is there.
        text = unit.read_text(encoding="utf-8").replace("/srv/deploy/%i/.venv/bin", str(Path(sys.executable).parent)).replace("User=deploy\n", "")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name.replace("@.", "@calendar-api.")) for unit in UNITS)],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in told.stderr.splitlines() if "lastro-" in line] == []
    assert told.returncode == 0, told.stderr


def test_a_failure_of_each_job_alerts_and_each_timer_has_its_service() -> None:
    names = {unit.name for unit in UNITS}
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        if unit.suffix == ".timer":
            assert unit.with_suffix(".service").name in names
        elif not unit.name.startswith("lastro-alert"):
            assert "OnFailure=lastro-alert@%n.service" in text
            called = re.search(r"ansible-playbook lastro\.deploy\.(\w+) ", text)
            assert called and called[1] in PLAYBOOKS


def test_awx_starts_playbooks_that_are_there() -> None:
    (block,) = re.findall(r"^```yaml\n(- name: Have the job template\n.*?)^```", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.M | re.S)
    template, schedule = yaml.safe_load(block)
    assert Path(template["awx.awx.job_template"]["playbook"]).stem in PLAYBOOKS
    assert schedule["awx.awx.schedule"]["unified_job_template"] == template["awx.awx.job_template"]["name"]
