#!/bin/sh
# run.sh BUILD SECONDS TARGET...   each target for that long, starting from its corpus; findings are
# kept in BUILD/fuzz-findings.
B=$1; S=$2; shift 2
mkdir -p "$B/fuzz-findings"
for t in "$@"; do
    n=$(basename "$t"); seeds="tests/fuzz/corpus/${n#fuzz_}"; work="$B/fuzz-corpus/$n"
    mkdir -p "$work" "$seeds"
    echo "fuzz $n: ${S}s"
    "$t" -max_total_time="$S" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$B/fuzz-findings/$n-" "$work" "$seeds" >"$B/fuzz-findings/$n.log" 2>&1 || {
        tail -40 "$B/fuzz-findings/$n.log"; echo "fuzz $n: FAILED, input kept in $B/fuzz-findings"; exit 1; }
    grep -E 'number_of_executed_units|new_units_added' "$B/fuzz-findings/$n.log" | sed 's/^/  /'
done
