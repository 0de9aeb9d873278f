# take NAME COMMAND...   sourced by many_*.sh: a line of a table with $n, NAME, seconds by the clock, processor
# seconds (its children's included) and the most memory that is no mapped file.  $B is the build, $work a folder.
take() {
    name=$1
    shift
    begin=$(date +%s.%N)
    "$B/tests/tools/usage" -a "$@" >"$work/out" 2>"$work/err" || { cat "$work/err" >&2; exit 1; }
    end=$(date +%s.%N)
    sed -n 's/^usage //p' "$work/err" | awk -v n="$n" -v name="$name" -v s="$begin" -v e="$end" \
        '{printf "| %d | %s | %.2f s | %.2f s | %.1f MB |\n", n, name, e - s, ($2 + $3) / 1000, $4 / 1000}'
}
