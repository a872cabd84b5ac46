# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts pip into the interpreter that runs this, from the wheel that Python itself brings; the arguments are pip's."""

from __future__ import annotations

import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"])
packages = [argument for argument in sys.argv[1:] if argument not in {"--no-setuptools", "--no-wheel"}]
if any(not argument.startswith("-") for argument in packages):
    subprocess.check_call([sys.executable, "-m", "pip", "install", *packages])
