#!/usr/bin/env bash
# From a BraTS download to a training store: check, split, prepare.
#
#   bash scripts/preprocess_brats2020.sh DOWNLOAD STORE
#
# DOWNLOAD  folder of the cases as BraTS gives them out (any edition; only read)
# STORE     folder for the training store; beside it come STORE.check.json and STORE.folds.json
#
# From the environment: FOLDS (default 5), JOBS (processes, default all cores). May be interrupted and called again:
# cases that are complete are not prepared twice.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}
[ $# -eq 2 ] || fail "found $# arguments, expected 2: bash scripts/preprocess_brats2020.sh DOWNLOAD STORE"
download=${1%/}
store=${2%/}
command -v brats-seg >/dev/null || fail "brats-seg is not on PATH; activate its environment: source .venv/bin/activate"
[ -d "$download" ] || fail "$download: no such folder; DOWNLOAD is the folder of the cases"
[ -d "$(dirname "$store")" ] || fail "$(dirname "$store"): no such folder; STORE is made in a folder that is there"
jobs=()
[ -z "${JOBS:-}" ] || jobs=(--jobs "$JOBS")

# Ends here (exit code 1) where a case cannot be used; warnings and notes do not stop it.
brats-seg check "$download" --json "$store.check.json" "${jobs[@]}"

# The folds are a pure function of the cases: split gives the same file every time.
brats-seg split "$download" --folds "${FOLDS:-5}" --out "$store.folds.json" --overwrite

brats-seg prepare "$download" "$store" "${jobs[@]}"

echo "done: $store; next: bash scripts/train_gpu.sh $store RUN"
