# Sourced by tests/cli/test_*.sh after lib.sh: several processes of weft-train, and what two runs are
# compared by.

# Root is refused without these, and two cores are too few for four ranks; MPICH knows neither
# variable and minds neither.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    OMPI_MCA_btl_vader_single_copy_mechanism=none
mpi() { ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" mpirun "$@"; } # Open MPI's leaks are its own
have_mpi() { command -v mpirun >/dev/null && [ -f "$B/libweft-mpi.so" ]; }

# SHA-256 of every file but those with times: the logs, TensorBoard's events, the page, and what the
# run took (prediction.json).
sums() { # RUN
    (cd "$1" && find . -type f ! -name .lock ! -name '*.jsonl' ! -path './tensorboard/*' ! -name report.html \
        ! -name prediction.json -exec sha256sum {} + | sort)
}
untimed() { sed 's/,"time":.*//' "$1"; }

# Two ranks, of which the first alone writes files: just before such a call of its ACTION is done ($ZERO
# and $ONE are their processes).
two_ranks_at() { # N|when ACTION COMMAND...
    two_at=$1
    two_action="ZERO=\$PID && ONE=\$(cat $T/rank-1) && $2"
    shift 2
    status=0
    rm -f "$T/rank-1"
    mpi -n 1 "$B/tests/tools/at_call" "$two_at" "$two_action" "$@" : -n 1 \
        sh -c 'echo $$ >"$0"; exec "$@"' "$T/rank-1" "$@" >"$T/stdout" 2>"$T/stderr" </dev/null || status=$?
}
