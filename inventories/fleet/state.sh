#!/bin/sh
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Inventory script: the hosts of a fleet world and its facts (fleet_state), as tests/bin/fleet has written them into the file
# that LASTRO_FLEET names; no host where there is none yet.
set -eu
cat "${LASTRO_FLEET:-/nonexistent}" 2>/dev/null || echo '{"_meta": {"hostvars": {}}}'
