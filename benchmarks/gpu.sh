#!/usr/bin/env bash
# Measures on this machine's GPU every figure that benchmarks/README.md marks as to be confirmed there, in ten minutes.
#
#     bash benchmarks/gpu.sh ../shared/data            # DATA holds cola/, rte/ and sst2/: train.jsonl and validation.jsonl
#     bash benchmarks/gpu.sh ../shared/data --quick    # everything tiny, on a CPU too: does the script itself work?
#
# The most important phases come first (benchmarks/gpu.py). Each has a time limit; one that fails or runs out of time says
# so, keeps the lines it has printed, and the next begins. One table of all figures ends the output, which is also kept
# in OUT/output.txt (OUT=gpu-results by default; PYTHON=python3, MINUTES=10 for everything, PHASES=all).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${1:?usage: bash benchmarks/gpu.sh DATA [--quick]}
quick=${2:-}
out=${OUT:-gpu-results}
python=${PYTHON:-python3}
deadline=$(($(date +%s) + 60 * ${MINUTES:-10} - 15))
mkdir -p "$out"
rm -f "$out/rows.jsonl"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TF_CPP_MIN_LOG_LEVEL=2

phase() {  # name, seconds
    local left=$((deadline - $(date +%s))) limit=$2 status
    [[ " ${PHASES:-$1} " == *" $1 "* ]] || return 0
    [ "$left" -lt 20 ] && { echo "== $1: left out, the time is up (MINUTES=20 gives more)"; return 0; }
    [ -n "$quick" ] && limit=300
    [ "$left" -lt "$limit" ] && limit=$left
    echo "== $1 (at most $limit s)"
    # Ends the whole group: a phase starts processes of its own.
    timeout --kill-after=10 "$limit" "$python" "$here/gpu.py" "$1" "$data" --out "$out" $quick 2>&1
    status=$?
    [ "$status" -eq 124 ] && echo "== $1: ran out of time"
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ] && echo "== $1: failed ($status)"
    return 0
}

{
    phase quickstart 90
    phase step-minilm 90
    phase step-base 130
    phase step-large 150
    phase bits 90
    phase measures 60
    phase interruption 150
    phase unroll-large 150
    phase calls 60
    phase unroll 150
    phase precision 100
    phase instability 120
    phase options 150
    "$python" "$here/gpu.py" table "$data" --out "$out" $quick
} 2>&1 | tee "$out/output.txt"
