#!/usr/bin/env bash
# Train on a GPU from a store alone; called again, it continues an interrupted run.
#
#   bash scripts/train_gpu.sh STORE RUN [GPUS] [KEY=VALUE...]
#
# STORE      folder that brats-seg prepare wrote (the download is not needed)
# RUN        folder for weights, curves and validation
# GPUS       number of GPUs, default 1; more than one is refused until data-parallel training exists
# KEY=VALUE  settings over the recipe's, such as data.fold=1 train.steps=10000
#
# From the environment: RECIPE (default `default`; a name or a file), DEVICE (default cuda; cuda:1, cpu).
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}
[ $# -ge 2 ] || fail "found $# arguments, expected at least 2: bash scripts/train_gpu.sh STORE RUN [GPUS] [KEY=VALUE...]"
store=${1%/}
run=${2%/}
shift 2
gpus=1
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
  gpus=$1
  shift
fi
# One process needs no launcher, and its errors stay one line. Several are for
# torchrun --standalone --nproc-per-node "$gpus" -m brats_seg, once training can share the work.
[ "$gpus" -eq 1 ] || fail "GPUS=$gpus: a run uses one GPU until data-parallel training exists; leave GPUS out, or give 1"
command -v brats-seg >/dev/null || fail "brats-seg is not on PATH; activate its environment: source .venv/bin/activate"
[ -f "$store/store.json" ] || fail "$store: no store.json in it; make the store first: bash scripts/preprocess_brats2020.sh"

settings=("data.store=$store" "output=$run")
# Folds that preprocess_brats2020.sh wrote; without them train divides the store's cases by the same rule.
[ ! -f "$store.folds.json" ] || settings+=("data.split=$store.folds.json")
resume=()
if [ -f "$run/config.yaml" ]; then
  echo "$run holds a run: continuing it"
  resume=(--resume)
fi

# Large host arrays (validation, training on a CPU) in huge pages: fewer page faults. Read when a process starts, so it
# is set here; the rest of the allocator's settings the command makes itself. Nothing on the GPU depends on it.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}

exec brats-seg train "${RECIPE:-default}" "${settings[@]}" "$@" "${resume[@]}" --device "${DEVICE:-cuda}"
