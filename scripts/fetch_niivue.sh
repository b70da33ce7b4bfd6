#!/usr/bin/env bash
# Makes brats_seg/reporting/viewer/niivue/niivue.umd.js.gz again from the npm package, and compares its hash.
#   bash scripts/fetch_niivue.sh
# Needs npm. Another version: change VERSION here and the hash in SHA256, then look at the viewer's browser tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../brats_seg/reporting/viewer/niivue"
VERSION=0.69.0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && npm pack --silent "@niivue/niivue@$VERSION" >/dev/null && tar -xzf ./*.tgz package/dist/niivue.umd.js)
hashes=$PWD/SHA256
(cd "$folder/package/dist" && sha256sum --check --quiet "$hashes")
gzip -n9 -c "$folder/package/dist/niivue.umd.js" >niivue.umd.js.gz
echo "wrote $PWD/niivue.umd.js.gz, NiiVue $VERSION"
