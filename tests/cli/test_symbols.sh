#!/bin/sh
# No two object files of the programs define the same symbol: they meet in one library, where the
# linker would take either in silence.
. tests/cli/lib.sh
# main.c and mpi.c are linked into one program or library each.
objects=$(find common prep cache train infer \( -name '*.c' -o -name '*.cc' -o -name '*.cu' \) ! -name main.c \
    ! -path common/ranks/mpi.c | sed "s|^|$B/|; s|\.[a-z]*\$|.o|")
missing=$(for o in $objects; do [ -f "$o" ] || echo "$o"; done)
if [ -z "$missing" ]; then
    pass "every source has its object file"
else
    fail "every source has its object file" $missing
fi
# Strong definitions only: inline functions of C++ are weak, and equal.
nm -A -g --defined-only $objects 2>/dev/null | awk '$2 ~ /^[TDBRGSC]$/ {sub(/:[0-9a-f]*$/, "", $1); print $3, $1}' |
    sort -u >"$T/symbols"
check "symbols were read" test "$(wc -l <"$T/symbols")" -gt 500
twice=$(awk '{n[$1]++; where[$1] = where[$1] " " $2} END {for (s in n) if (n[s] > 1) print s ":" where[s]}' \
    "$T/symbols")
if [ -z "$twice" ]; then pass "no symbol is defined twice"; else fail "no symbol is defined twice" "$twice"; fi
finish
