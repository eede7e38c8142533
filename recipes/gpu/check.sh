#!/usr/bin/env bash
# Run the checks of a GPU from a pack, see pack.sh; results go to $OUT. About six minutes, and no network.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-/tmp/restyle-gpu-check}
export OUT=${OUT:-$here/results}
mkdir -p "$work/site" "$work/source" "$OUT"
tar xzf "$here/core/source.tar.gz" -C "$work/source"
# Behind what is installed: numpy, for one, must be that which torch was built for.
python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site" \
  "$here"/core/wheels/*.whl $(ls "$here"/pipeline/wheels/*.whl 2>/dev/null)
cat >"$work/sitecustomize.py" <<'P'
import sys
sys.path.append(__file__.rsplit("/", 1)[0] + "/site")
P
export PYTHONPATH=$work:$work/source RESTYLE_CACHE=$work/cache PYTHONUNBUFFERED=1
cd "$work/source" || exit 2
exec bash recipes/gpu/checks.sh python3
