#!/bin/sh
# The networks of weft-infer evaluate, here and in torch, in turns on one core.     sh tests/bench/networks.sh [ROUNDS] [NETWORK...]
# Needs python3 (or PYTHON) with torch, transformers and torch-fidelity, and build/release/tests/bench/bench_networks.
set -e
B=${WEFT_BUILD:-build/release}
rounds=${1:-3}
[ $# -gt 0 ] && shift
for net in ${*:-clip inception i3d}; do
    i=0
    while [ $i -lt "$rounds" ]; do
        OPENBLAS_NUM_THREADS=1 taskset -c 0 "$B/tests/bench/bench_networks" 1 4 "$net"
        [ "$net" != clip ] || OPENBLAS_NUM_THREADS=1 taskset -c 0 "$B/tests/bench/bench_networks" 1 4 products
        OMP_NUM_THREADS=1 taskset -c 0 "${PYTHON:-python3}" tests/bench/networks.py 4 "$net"
        i=$((i + 1))
    done | tee -a /dev/stderr | awk -v net="$net" '/^weft/ {a += $3} /^torch/ {b += $3} END {printf "%s: ratio %.2f\n", net, b / a}'
done
