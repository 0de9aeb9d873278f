# Sourced by tests/cli/test_*.sh: TAP lines, a temporary folder, and what a command printed.
#
#   . tests/cli/lib.sh
#   runs "help names its options" 0 "$B/weft-prep" ingest --help
#   stdout_has "--out"
#   finish
#
# B is the build folder, T a fresh folder (removed at the end unless KEEP=1), SHARED the reference data or empty.
# Tests run in the repository's root.
B=${WEFT_BUILD:-build/release}
T=$(mktemp -d "${TMPDIR:-/tmp}/weft-cli-XXXXXX") || exit 1
trap '[ -n "$KEEP" ] && echo "# kept $T" || rm -rf "$T"' EXIT
trap 'exit 130' INT TERM
SHARED=${WEFT_SHARED:-../shared}
[ -d "$SHARED" ] || SHARED=
lib_n=0
lib_failed=0

pass() { # NAME
    lib_n=$((lib_n + 1))
    echo "ok $lib_n - $1"
}

fail() { # NAME [WHY...]
    lib_n=$((lib_n + 1))
    lib_failed=$((lib_failed + 1))
    echo "not ok $lib_n - $1"
    shift
    for lib_line in "$@"; do echo "#   $lib_line"; done
}

skip() { # NAME REASON
    lib_n=$((lib_n + 1))
    echo "ok $lib_n - $1 # SKIP $2"
}

check() { # NAME COMMAND...: passes when the command succeeds
    lib_name=$1
    shift
    if "$@" >"$T/check.txt" 2>&1; then
        pass "$lib_name"
    else
        fail "$lib_name" "failed: $*" "$(tail -5 "$T/check.txt")"
    fi
}

# The command's output lies in $T/stdout and $T/stderr, its exit status in $status.
runs() { # NAME STATUS COMMAND...
    lib_name=$1
    lib_want=$2
    shift 2
    status=0
    "$@" >"$T/stdout" 2>"$T/stderr" </dev/null || status=$?
    if [ "$status" = "$lib_want" ]; then pass "$lib_name"
    else fail "$lib_name" "exit $status, expected $lib_want: $*" "$(tail -5 "$T/stderr")"; fi
}

stdout_has() { # TEXT: in the last command's standard output
    if grep -qF -e "$1" "$T/stdout"; then
        pass "$lib_name: stdout has '$1'"
    else
        fail "$lib_name: stdout has '$1'" "$(head -5 "$T/stdout")"
    fi
}

stderr_has() { # TEXT
    if grep -qF -e "$1" "$T/stderr"; then
        pass "$lib_name: stderr has '$1'"
    else
        fail "$lib_name: stderr has '$1'" "$(head -5 "$T/stderr")"
    fi
}

# Folders or files with the same bytes, names and nothing more; .sources and .weights know files'
# places and times and are not the dataset's.
same() { # NAME A B
    if diff -r -x .sources -x .weights "$2" "$3" >"$T/diff.txt" 2>&1; then
        pass "$1"
    else
        fail "$1" "$(head -5 "$T/diff.txt")"
    fi
}

# Moments in the work and not in time, the same on any machine (tests/tools/at_call.c).  The command's
# output lies in $T/stdout and $T/stderr, its exit status in $status.

# Just before the command's N-th call that changes files or folders ACTION, a shell line, is done.
at_call() { # N[,N...]|when ACTION COMMAND...
    status=0
    "$B/tests/tools/at_call" "$@" >"$T/stdout" 2>"$T/stderr" </dev/null || status=$?
}

# Whether the programs were built with a sanitizer, which keeps memory and address space of its own.
sanitized() { nm "$B/weft-infer" 2>/dev/null | grep -q '__[at]san_init'; }
check_memory() { # as check
    if sanitized; then skip "$1" "sanitizers keep memory of their own"; else check "$@"; fi
}
splits_arenas() { nm "$B/weft-infer" 2>/dev/null | grep -q '__asan_init\|__ubsan_handle'; }
split="this sanitizer's builds split what is planned"
check_planned() { # as check_memory, of what arenas take
    if splits_arenas; then skip "$1" "$split"; else check_memory "$@"; fi
}
as_planned() { # of the last command
    if splits_arenas; then skip "memory as planned" "$split"; else stderr_has " used, exactly as planned"; fi
}

no_trace="this machine lets no process trace another"
can_trace() { "$B/tests/tools/at_call" 1 : true; }

# As runs; $calls is how many such calls the command made.
counts() { # NAME STATUS COMMAND...
    lib_name=$1
    lib_want=$2
    shift 2
    if can_trace; then set -- "$B/tests/tools/at_call" 0 : "$@"; fi
    runs "$lib_name" "$lib_want" "$@"
    calls=$(sed -n 's/^calls //p' "$T/stderr")
}

# Killed (-9) there; true when it had not ended by itself before.
killed_at_call() { # N COMMAND...
    lib_call=$1
    shift
    at_call "$lib_call" 'kill -9 $PID' "$@"
    [ "$status" = 137 ]
}

# Killed and started again, each time at a random (SEED) one of the first MOST calls; $kills: how often
# it had not ended by itself before.
killed_often() { # TIMES MOST COMMAND...
    lib_times=$1
    lib_most=$2
    shift 2
    kills=0
    for lib_k in $(seq "$lib_times"); do
        killed_at_call "$(seeded "${SEED:-1}$lib_k" "$lib_most")" "$@" && kills=$((kills + 1))
    done
    was_killed "$lib_times"
}

was_killed() { # TIMES: at least one of them came before the end, $kills
    if can_trace; then check "killed on the way, $kills of $1 times" test "$kills" -ge 1
    else skip "killed on the way" "$no_trace"; fi
}

seeded() { # SEED MAX: a whole number from 1 to MAX
    awk -v seed="$1" -v max="$2" 'BEGIN { srand(seed); rand(); print 1 + int(rand() * max) }'
}

finish() {
    echo "1..$lib_n"
    [ "$lib_failed" = 0 ]
    exit
}
