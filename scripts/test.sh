#!/usr/bin/env bash
# Lint, types, layers and tests, as one command:   bash scripts/test.sh [PYTEST-ARGUMENTS]
# The first call makes .venv and installs everything (scripts/install.sh).
# BRATS_SEG_DATA names a folder of real BraTS cases, for the tests that need them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/install.sh test,dev
# One thread a process: two OpenMP threads beside another busy process are ten times slower than one.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export PATH="$PWD/.venv/bin:$PATH"

failed=()
step() { # NAME COMMAND...: run it; a failure does not keep the others from running
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}
step lint ruff check .
step format ruff format --check .
step types mypy
step layers lint-imports --no-logo
[ -n "${BRATS_SEG_DATA:-}" ] || echo "BRATS_SEG_DATA is not set: tests on real cases will be skipped"
step tests python -m pytest -n 2 --dist worksteal "$@"

if [ "${#failed[@]}" -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
