#!/usr/bin/env bash
# Pack what `make gpu-check` needs on a bare GPU machine without a network: the source, and wheels that such a
# machine's Python lacks. Run it in the project's root:
#
#   recipes/gpu/pack.sh FOLDER [PYTHON_VERSION]        the version there; 3.12 by default
#
# There, with torch for CUDA and nvcc installed:  OUT=RESULTS bash FOLDER/check.sh
#
# FOLDER/core is 160 MB; FOLDER/pipeline (Ray and what it imports) 120 MB, and may be left out: then the
# pipeline's checks are skipped. An earlier version ran there with torch 2.11; the pinned one is not packed.
set -eu
folder=${1:?name a folder for the pack} version=${2:-3.12}
core="annotated-doc annotated-types pydantic pydantic_core typing-inspection typing_extensions typer rich markdown-it-py mdurl
  pygments click shellingham isal lazy_loader pluggy safetensors pillow numpy scipy ninja pyarrow fsspec pytest iniconfig packaging dlib-bin"
pipeline="ray jsonschema referencing rpds-py jsonschema-specifications attrs msgpack protobuf filelock
  requests urllib3 idna charset-normalizer certifi pyyaml pandas python-dateutil six duckdb jinja2 markupsafe"

# Wheels of the pinned versions; a name without a pin is skipped, because nothing that is pinned needs it.
fetch() {
  local into=$1 pinned=() name
  shift
  for name in "$@"; do
    name=$(grep -iE "^${name//[-_]/[-_]}==" constraints.txt || true)
    [ -z "$name" ] || pinned+=("$name")
  done
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$into" \
    --python-version "$version" --implementation cp --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 "${pinned[@]}"
}

mkdir -p "$folder/core/wheels" "$folder/pipeline/wheels"
# shellcheck disable=SC2086 - lists of words
fetch "$folder/core/wheels" $core
# shellcheck disable=SC2086
fetch "$folder/pipeline/wheels" $pipeline
git archive --format=tar.gz --output="$folder/core/source.tar.gz" HEAD ':!samples' ':!docs/pictures' \
  ':!*single-pass*.safetensors' ':!*e4e.safetensors' ':!restyle_core/models/toon64'
cp recipes/gpu/check.sh "$folder/check.sh"
du -sh "$folder"/*
