#!/usr/bin/env bash
# What `make gpu-check` runs: checks.sh PYTHON. The most telling things come first, each is a file in $OUT, and one
# that fails does not keep the others from running.
set -u
python=$1 out=${OUT:-gpu-check} failed=0
export OUT=$out
mkdir -p "$out"
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "skipped: torch sees no GPU here" && exit 0
fi
try() {
  local name=$1
  shift
  echo "== $name" && timeout 240 "$@" 2>&1 | tee "$out/$name.log" | tail -40
  [ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
}
try kernels "$python" -m pytest -q -p no:cacheprovider tests/gpu/test_kernels.py
try rates "$python" -m tests.gpu.rates
try steps "$python" -m pytest -q -p no:cacheprovider tests/gpu/test_steps.py
try bench "$python" -m restyle bench --shape faces1024 --device cuda --dtype bf16,tf32,fp32 --batch 1,4,16,32 \
  --no-reference --json "$out/bench.json"
if "$python" -c 'import ray' 2>/dev/null; then
  try pipeline "$python" -m pytest -q -p no:cacheprovider tests/gpu/test_pipeline.py
else
  echo "== pipeline: skipped, Ray is not installed"
fi
# The processor beside the GPU often has matrix units (AMX), which are measured nowhere else.
try cpu "$python" -m restyle bench --shape faces1024 --device cpu --dtype bf16 --batch 4 --repeats 3 --steps 1 \
  --no-reference --json "$out/cpu.json"
exit $failed
