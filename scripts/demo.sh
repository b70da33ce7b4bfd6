#!/usr/bin/env bash
# The whole chain on synthetic cases, on a CPU, in minutes:   bash scripts/demo.sh [OUT] [OPTIONS]
# OUT is the folder to write (default: out); options are those of `brats-seg demo --help`.
# The first call makes .venv and installs brats_seg into it (scripts/install.sh). A second call continues the demo.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
bash "$here/install.sh"
exec "$here/../.venv/bin/brats-seg" demo "${1:-out}" "${@:2}"
