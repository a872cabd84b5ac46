# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alembic with this project's configuration, from any directory: ``python migrations/run_alembic.py upgrade head``."""

import logging
import os
from pathlib import Path

from alembic.config import main

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.INFO)
    os.environ.setdefault("ALEMBIC_CONFIG", str(Path(__file__).resolve().parents[1] / "alembic.ini"))
    main()
