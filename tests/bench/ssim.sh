#!/bin/sh
# SSIM here and in scikit-image, in turns on the same core.     sh tests/bench/ssim.sh [ROUNDS]
# Needs python3 (or PYTHON) with numpy and scikit-image, and build/release/tests/bench/bench_metrics.
set -e
B=${WEFT_BUILD:-build/release}
i=0
while [ $i -lt "${1:-3}" ]; do
    taskset -c 0 "$B/tests/bench/bench_metrics" 1 2 480 720 | head -1
    taskset -c 0 "${PYTHON:-python3}" tests/bench/ssim.py 2 480 720
    i=$((i + 1))
done | tee /dev/stderr | awk '/^ssim/ {a += $2} /^scikit/ {b += $2} END {printf "ratio %.1f\n", b / a}'
