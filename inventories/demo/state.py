#!/usr/bin/env python3
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory script: the facts of the demo's servers (`demo_state`), read once; {} where `make demo` has not made them yet."""

import json
import os
import sys
from pathlib import Path

path = Path(os.environ.get("LASTRO_DEMO_STATE") or Path(__file__).resolve().parents[2] / ".demo" / "state.json")
state = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
json.dump({"all": {"vars": {"demo_state": state}}, "_meta": {"hostvars": {}}}, sys.stdout)
