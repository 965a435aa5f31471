#!/bin/bash
# What a run on a lent GPU takes along, made without one: packages, and triton's machine code.
#
#     tests/gpu/card/pack.sh [FOLDER]      .gpu, beside the tree that goes there
#
# FOLDER/wheels: what such a machine lacks beside torch, for its Python. FOLDER/triton.tgz: kernels
# for sm_90, as that machine's triton finds them. It takes a Python of the same version as there
# (PYTHON, python3.12), an environment with the same torch (VENV, made if it is not there), and half
# an hour of two cores. What is there already is not made again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
into=$(realpath -m "${1:-.gpu}")
python=${PYTHON:-python3.12}
torch=${TORCH:-2.11.0} numpy=${NUMPY:-2.5.2} # of the machine with the card; triton is torch's
venv=${VENV:-$into/venv}
packages=(msgspec pydantic pydantic-core pydantic-settings annotated-types typing-inspection
    python-dotenv llguidance tokenizers fastapi starlette annotated-doc uvicorn httptools
    sse-starlette opentelemetry-api)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p "$into/wheels"

pinned=()
for package in "${packages[@]}"; do
    pin=$(grep -i "^${package//-/[-_]}==" constraints.txt || true)
    pinned+=("${pin:-$package}")
done
platforms=()
for platform in manylinux_2_31 manylinux_2_28 manylinux_2_17 manylinux2014 manylinux1; do
    platforms+=(--platform "${platform}_x86_64")
done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" \
    --implementation cp "${platforms[@]}" -d "$into/wheels" "${pinned[@]}"
echo "wheels: $(find "$into/wheels" -name '*.whl' | wc -l), $(du -sh "$into/wheels" | cut -f1)"

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q "torch==$torch" "numpy==$numpy" safetensors tiktoken jinja2 \
    anyio httpx prometheus-client typer rich filelock "${pinned[@]}"

# Launchers are linked against the driver, which is there and not here: its name is enough.
stub=$into/stub
mkdir -p "$stub"
[ -e "$stub/libcuda.so.1" ] ||
    gcc -shared -Wl,-soname,libcuda.so.1 -o "$stub/libcuda.so.1" -x c /dev/null
export TRITON_INTERPRET=0 TRITON_CACHE_DIR=$into/triton TRITON_LIBCUDA_PATH=$stub
"$venv/bin/python" -m tests.fake_gpu.in_advance.fill_cache >"$into/asked.json"
"$venv/bin/python" -m tests.fake_gpu.in_advance.rehearse "engine 0.6B" "engine 8B" guesses attention checks ||
    echo "these would be compiled on the card: its key or its forms are others"
tar -czf "$into/triton.tgz" -C "$into/triton" .
echo "triton: $(find "$into/triton" -name '*.cubin' | wc -l) kernels, $(du -h "$into/triton.tgz" | cut -f1)"
echo "take along: $into/wheels and $into/triton.tgz"
