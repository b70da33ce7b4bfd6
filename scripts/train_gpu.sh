#!/usr/bin/env bash
# Train on a GPU from a store alone; called again, it continues an interrupted run.
#
#   bash scripts/train_gpu.sh STORE RUN [GPUS] [KEY=VALUE...]
#
# STORE      folder that brats-seg prepare wrote (the download is not needed)
# RUN        folder for weights, curves and validation
# GPUS       number of GPUs of this machine, default 1; several train one network together, and share train.batch
# KEY=VALUE  settings over the recipe's, such as data.fold=1 train.steps=10000
#
# From the environment: RECIPE (default `default`; a name or a file), DEVICE (default cuda; cuda:1, cpu). On several
# machines, called on each: NODES (how many), RENDEZVOUS (HOST:PORT of one of them), RENDEZVOUS_ID (any word, the same on
# all); STORE and RUN lie on a disk that all of them see.
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
nodes=${NODES:-1}
[ "$gpus" -ge 1 ] || fail "GPUS=$gpus: expected at least 1"
[ "$nodes" -eq 1 ] || [ -n "${RENDEZVOUS:-}" ] || fail "NODES=$nodes, but RENDEZVOUS is not set: the HOST:PORT of one of them"
command -v brats-seg >/dev/null || fail "brats-seg is not on PATH; activate its environment: source .venv/bin/activate"
[ -f "$store/store.json" ] || fail "$store: no store.json in it; make the store first: bash scripts/preprocess_brats2020.sh"

settings=("data.store=$store" "output=$run")
# Folds that preprocess_brats2020.sh wrote; without them train divides the store's cases by the same rule.
[ ! -f "$store.folds.json" ] || settings+=("data.split=$store.folds.json")
settings+=("$@" --device "${DEVICE:-cuda}")

# Large host arrays (validation, training on a CPU) in huge pages: fewer page faults. Read when a process starts, so it
# is set here; the rest of the allocator's settings the command makes itself. Nothing on the GPU depends on it.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}

if [ "$gpus" -eq 1 ] && [ "$nodes" -eq 1 ]; then
  if [ -f "$run/config.yaml" ]; then
    echo "$run holds a run: continuing it"
    settings+=(--resume)
  fi
  exec brats-seg train "${RECIPE:-default}" "${settings[@]}"
fi

# torchrun starts a process a GPU; launch.py keeps a run's own error the one line that is printed. All processes continue
# what there is: one that starts later must not find a run that another has just begun.
threads=$(($(nproc) / gpus))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
meeting=(--standalone)
[ "$nodes" -eq 1 ] || meeting=(--nnodes "$nodes" --rdzv-backend c10d --rdzv-endpoint "$RENDEZVOUS" --rdzv-id "${RENDEZVOUS_ID:-brats-seg}")
exec python "$(dirname "$0")/launch.py" "${meeting[@]}" --nproc-per-node "$gpus" \
  -m brats_seg train "${RECIPE:-default}" "${settings[@]}" --resume
