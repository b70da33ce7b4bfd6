#!/usr/bin/env bash
# Makes .venv beside this folder and installs brats_seg into it:   bash scripts/install.sh [EXTRA,EXTRA]
# Does nothing where that was done before with the same setup.cfg and constraints.txt.
# Needs Python 3.11 or newer with pip (python3, or what PYTHON names). A torch 2.13.0 that is already in .venv
# is kept, so a particular build (CPU, CUDA version) can be installed there first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=${1:-}
stamp=.venv/.brats_seg-installed${extras:+-${extras//,/-}}
wanted=$(cat setup.cfg pyproject.toml constraints.txt | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "error: $python is missing or older than Python 3.11; name another one: PYTHON=python3.12 bash $0" >&2; exit 2; }
if [ ! -x .venv/bin/python ]; then
  echo "== making .venv (downloads a few hundred megabytes, with CUDA a few gigabytes)"
  "$python" -m venv .venv
fi
echo "== installing brats_seg${extras:+ with $extras}"
# --no-compile: byte code is made when a module is first imported, which is a small part of all that is installed
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt)
"${pip[@]}" torch==2.13.0 # first, so that nothing else chooses its version
"${pip[@]}" -e ".${extras:+[$extras]}"
echo "$wanted" >"$stamp"
