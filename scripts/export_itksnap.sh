#!/usr/bin/env bash
# Predict a download with a trained run, score it where it has segmentations, and write ITK-SNAP workspaces.
#
#   bash scripts/export_itksnap.sh RUN DOWNLOAD OUT
#
# RUN       folder that brats-seg train wrote
# DOWNLOAD  folder of cases (only read), with or without segmentations
# OUT       folder for predictions/, evaluation/ and itksnap/
#
# From the environment: CASES (names, or a file with one a line; default all), DEVICE (default auto), PROTOCOL
# (default brats2020). CASES=RUN/validation/cases.txt scores only cases that the run was not trained on.
# May be interrupted and called again: finished predictions are kept.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}
[ $# -eq 3 ] || fail "found $# arguments, expected 3: bash scripts/export_itksnap.sh RUN DOWNLOAD OUT"
run=${1%/}
download=${2%/}
out=${3%/}
command -v brats-seg >/dev/null || fail "brats-seg is not on PATH; activate its environment: source .venv/bin/activate"
[ -f "$run/model.safetensors" ] || fail "$run: no model.safetensors in it; RUN is the folder that brats-seg train wrote"
[ -d "$download" ] || fail "$download: no such folder; DOWNLOAD is the folder of the cases"
cases=()
[ -z "${CASES:-}" ] || cases=(--cases "$CASES")

# Huge pages spare page faults on a CPU; read when a process starts, so it is set here. The command makes the rest of
# the allocator's settings itself.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
brats-seg predict "$run" "$download" "$out/predictions" "${cases[@]}" --device "${DEVICE:-auto}"

segmentation=$(find -L "$download" \( -iname '*[_-]seg.nii*' -o -iname '*_gtv.nii*' -o -iname '*segm.nii*' \
  -o -path '*/labelsTr/*.nii*' \) -print -quit)
if [ -n "$segmentation" ]; then
  brats-seg evaluate "$download" "$out/predictions" "${cases[@]}" --protocol "${PROTOCOL:-brats2020}" \
    --out "$out/evaluation" --overwrite
  echo "scores of cases that the run was trained on say nothing about new ones; held out: $run/validation/cases.txt"
else
  echo "$download has no segmentations: nothing to score"
fi

brats-seg export itksnap "$download" --prediction "$out/predictions" "${cases[@]}" --out "$out/itksnap" --overwrite
