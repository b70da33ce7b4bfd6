#!/usr/bin/env bash
# Makes the Python environments of the peers that scripts/bench measures us against:   bash scripts/bench/peers.sh [NAME ...]
# Names: monai medpy nnunet (default: all three; 1-2 GB each on a CPU, more with CUDA). Each is made once, with pip, in
# ${BRATS_SEG_PEERS:-~/.cache/brats-seg/peers}/NAME, apart from our own environment, in the versions named below.
# Needs Python 3.11 or newer with pip (python3, or what PYTHON names).
set -euo pipefail
peers=${BRATS_SEG_PEERS:-$HOME/.cache/brats-seg/peers}
python=${PYTHON:-python3}
torch=torch==2.13.0

packages_of() {
  case $1 in
    monai) echo monai==1.6.1 nibabel==5.4.2 scipy==1.17.1 einops ;;
    medpy) echo MedPy==0.5.2 nibabel==5.4.2 scipy==1.17.1 ;;
    nnunet) echo nnunetv2==2.8.1 ;;
    *) echo "error: no peer '$1' (known: monai, medpy, nnunet)" >&2; return 2 ;;
  esac
}

make_peer() {
  local name=$1 folder=$peers/$1 packages
  packages=$(packages_of "$name")
  local wanted="$torch $packages"
  if [ -f "$folder/made-of.txt" ] && [ "$(cat "$folder/made-of.txt")" = "$wanted" ]; then
    echo "$name: is there ($folder)"
    return
  fi
  echo "$name: making $folder"
  rm -rf "$folder"
  mkdir -p "$peers"
  "$python" -m venv "$folder"
  local pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
  if [ "$name" != medpy ]; then # MedPy computes with numpy alone
    "${pip[@]}" "$torch"        # first, so that nothing else chooses its version
  fi
  echo "$torch" >"$folder/constraints.txt"
  # shellcheck disable=SC2086 # several packages
  "${pip[@]}" -c "$folder/constraints.txt" $packages
  if [ "$name" = nnunet ]; then # its trainers of other networks pull in a torchvision that a CPU torch cannot load
    find "$folder" -type d -path '*nnUNetTrainer/primus' -exec mv {} "$folder/primus-moved-away" \; -prune
  fi
  echo "$wanted" >"$folder/made-of.txt"
  echo "$name: made"
}

[ "$#" -gt 0 ] || set -- monai medpy nnunet
for name in "$@"; do packages_of "$name" >/dev/null; done
for name in "$@"; do make_peer "$name"; done
