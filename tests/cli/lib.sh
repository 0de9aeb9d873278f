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

# Starts the command and kills it (-9) after that many seconds; true when it had not ended by itself before.
killed_after() { # SECONDS COMMAND...
    lib_delay=$1
    shift
    "$@" >"$T/stdout" 2>"$T/stderr" </dev/null &
    lib_pid=$!
    sleep "$lib_delay"
    kill -9 "$lib_pid" 2>/dev/null
    lib_status=0
    wait "$lib_pid" 2>/dev/null || lib_status=$?
    [ "$lib_status" = 137 ]
}

# The same once FILE has LINES lines: a moment in the work and not in time.
killed_at_line() { # LINES FILE COMMAND...
    lib_lines=$1
    lib_file=$2
    shift 2
    "$@" >"$T/stdout" 2>"$T/stderr" </dev/null &
    lib_pid=$!
    while kill -0 "$lib_pid" 2>/dev/null && [ "$(wc -l 2>/dev/null <"$lib_file" || echo 0)" -lt "$lib_lines" ]; do
        sleep 0.01
    done
    kill -9 "$lib_pid" 2>/dev/null
    lib_status=0
    wait "$lib_pid" 2>/dev/null || lib_status=$?
    [ "$lib_status" = 137 ]
}

finish() {
    echo "1..$lib_n"
    [ "$lib_failed" = 0 ]
    exit
}
