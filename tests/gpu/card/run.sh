#!/bin/bash
# `tests.gpu.run` on a lent machine with a GPU, of a bare tree and what `pack.sh` has made.
#
#     tests/gpu/card/run.sh OUT [what tests.gpu.run takes, but --out]
#
# Whatever is missing or broken of what was packed, the run goes on without it and says so. In OUT,
# beside the report: `log`, and with KEEP=1 `triton.tgz`, the cache as it is afterwards.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.." || exit
out=$(realpath -m "$1")
shift
mkdir -p "$out"
packed=$(realpath -m "${PACKED:-.gpu}")
here=${HERE:-/tmp/thirdeye-gpu}
site=$here/site
if [ ! -d "$site" ]; then
    mkdir -p "$site" "$here/triton"
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "$site" "$packed"/wheels/*.whl ||
        for wheel in "$packed"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$site"; done
    tar -xzf "$packed/triton.tgz" -C "$here/triton" || echo "no kernels were brought: triton compiles"
fi
export PYTHONPATH=$site PYTHONUNBUFFERED=1 TRITON_CACHE_DIR=$here/triton
{
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv
    python3 -m tests.gpu.run --out "$out" "$@"
} 2>&1 | tee -a "$out/log"
status=${PIPESTATUS[0]}
[ -z "${KEEP:-}" ] || tar -czf "$out/triton.tgz" -C "$here/triton" .
exit "$status"
