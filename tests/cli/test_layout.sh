# The rooms keep their distance, and each header stands alone.
. tests/cli/lib.sh

rooms=$(ls -d common prep cache train infer 2>/dev/null)

# FILES' includes of project headers must begin with one of the ALLOWED prefixes (an extended regular expression).
includes_only() { # NAME ALLOWED FILES...
    name=$1
    allowed=$2
    shift 2
    strays=$(grep -nE '^#include "' "$@" /dev/null 2>/dev/null | grep -vE "#include \"($allowed)(/|\")")
    if [ -z "$strays" ]; then
        pass "$name includes only $allowed"
    else
        fail "$name includes only $allowed" "$strays"
    fi
}

for room in prep cache train infer; do
    includes_only "$room" "common/[a-z]+|$room" $(find $room -name '*.[ch]' 2>/dev/null)
done
# Within prep: layout and picture know only themselves, line (a line of the manifest) knows layout,
# clip knows those, set knows clip.
floor='prep/reason\.h|prep/reasons\.def'
includes_only prep/layout "common/[a-z]+|prep/layout|$floor" prep/layout/*.[ch]
includes_only prep/picture "common/[a-z]+|prep/picture|$floor" prep/picture/*.[ch]
includes_only prep/line "common/[a-z]+|prep/layout|prep/line\.h|$floor" prep/line.[ch]
includes_only prep/clip "common/[a-z]+|prep/(clip|layout|picture)|prep/line\.h|$floor" prep/clip/*.[ch]
includes_only prep/set "common/[a-z]+|prep/(set|clip|layout|picture)|prep/line\.h|$floor" prep/set/*.[ch]
includes_only common/base 'common/base' common/base/*
for room in ops text media metrics; do
    includes_only common/$room "common/base|common/$room" $(find common/$room -type f)
done
# a file's tensors are the model's tensors
includes_only common/store 'common/(base|store)|common/ops/tensor.h' common/store/*
includes_only common/ranks 'common/(base|ops|ranks)' common/ranks/*
includes_only common/model 'common/(base|ops|store|model)' common/model/*.[ch]

# libav* belongs to media, LMDB and libzip to store, MPI to its shared object.
strays=$(grep -rlE '#include <(libav|libsw)' $rooms | grep -v '^common/media/')
if [ -z "$strays" ]; then pass "only common/media uses libav"; else fail "only common/media uses libav" "$strays"; fi
strays=$(grep -rl '#include <lmdb.h>' $rooms | grep -v '^common/store/')
if [ -z "$strays" ]; then pass "only common/store uses LMDB"; else fail "only common/store uses LMDB" "$strays"; fi
strays=$(grep -rl '#include <zip.h>' $rooms | grep -v '^common/store/')
if [ -z "$strays" ]; then pass "only common/store uses libzip"; else fail "only common/store uses libzip" "$strays"; fi

strays=$(grep -rl '#include <mpi.h>' $rooms | grep -v '^common/ranks/mpi.c$')
if [ -z "$strays" ]; then pass "only libweft-mpi.so uses MPI"; else fail "only libweft-mpi.so uses MPI" "$strays"; fi

strays=$(find $rooms -name '*.c' ! -name main.c | xargs grep -nE '(^|[^_a-z])(_?exit|abort|quick_exit)\(' |
    grep -v 'common/base/program.c:[0-9]*: *_exit(1)' | # the whole of a main(), under a memory limit
    grep -v 'common/base/mapped.c:[0-9]*: *_exit(1)' | # the handler of SIGBUS
    grep -v 'common/base/machine.c:[0-9]*: *_exit(1)' | # before main, under a memory limit
    grep -v 'common/base/worker.c:[0-9]*: *_exit(getppid() == parent ?' | # the child process that decodes one source
    grep -v 'cache/reader.c:[0-9]*: *_exit(getppid() == parent ?') # the child process that reads clips ahead
if [ -z "$strays" ]; then pass "only main.c ends the process"; else fail "only main.c ends the process" "$strays"; fi

strays=$(grep -nE 'check_run\(|_run_group_tests' $(find tests/unit -name 'test_*.c'))
if [ -z "$strays" ]; then
    pass "every unit test counts its live allocations"
else
    fail "every unit test counts its live allocations" "$strays"
fi

flags="-I. -Itests -D_GNU_SOURCE $(pkg-config --cflags jansson 2>/dev/null)"
bad=
for header in $(find $rooms tests -name '*.h' ! -path 'common/ops/cuda/*'); do
    echo "#include \"$header\"" | ${CC:-cc} -std=c11 -Wall -Wextra -Werror -fsyntax-only -x c $flags - \
        2>"$T/header.txt" || bad="$bad $header"
done
if [ -z "$bad" ]; then
    pass "each header compiles alone"
else
    fail "each header compiles alone" "$bad" "$(head -3 "$T/header.txt")"
fi
bad=
for header in $(find common/ops/cuda tests -name '*.h' -path '*ops/cuda/*') tests/ops/sim_kernels.h; do
    echo "#include \"$header\"" | ${CXX:-c++} -std=c++17 \
        -Wall -Wextra -Werror -Wno-unknown-pragmas -DWEFT_SIM -fsyntax-only -x c++ $flags - 2>"$T/header.txt" ||
        bad="$bad $header"
done
if [ -z "$bad" ]; then pass "each header of the CUDA back end compiles alone"
else fail "each header of the CUDA back end compiles alone" "$bad" "$(head -3 "$T/header.txt")"; fi

# Sizes: a file is one topic, a line fits a window.
sources=$(find $rooms tests -name '*.[ch]' -o -name '*.cc' -o -name '*.cu')
wide=$(grep -nE '^.{121}' $sources | cut -c1-100)
if [ -z "$wide" ]; then
    pass "no C line is wider than 120 columns"
else
    fail "no C line is wider than 120 columns" "$wide"
fi
# Files that wait to be split; take yours off when it is done.
waiting=""
long=$(wc -l $(echo "$sources" | grep -v '^tests/') | awk '$2 != "total" && $1 > 500 {print $2}')
for file in $long; do
    case " $(echo $waiting) " in *" $file "*) ;; *) fail "$file has at most 500 lines" \
        "$(wc -l <"$file") lines: split it by topic" ;; esac
done
pass "no other C file has more than 500 lines"
finish
