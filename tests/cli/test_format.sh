#!/bin/sh
# All C is laid out as .clang-format says; generated tables are not looked at.
. tests/cli/lib.sh
unset MAKEFLAGS MAKELEVEL MFLAGS
status=0
make -s format-check >"$T/format" 2>&1 || status=$?
name="all C is laid out as .clang-format says"
if grep -q "^format: skipped" "$T/format"; then skip "$name" "no clang-format 14"
elif [ $status = 0 ]; then pass "$name"
else fail "$name" "$(cat "$T/format")"; fi

# What the check does where the tool is another one, and with a file that is laid out otherwise.
printf '#!/bin/sh\necho "clang-format version 19.1.7"\n' >"$T/clang-format-19"
chmod +x "$T/clang-format-19"
runs "another version is not asked" 77 sh tests/format.sh check "$T/clang-format-19" common/base/err.c
stdout_has "skipped: clang-format 14 is needed, found 19"
runs "no clang-format" 77 sh tests/format.sh check "$T/none" common/base/err.c
stdout_has "found none"
printf '#!/bin/sh\n[ "$1" = --version ] && echo "clang-format version 14.0.6" || { echo "tidy"; }\n' \
    >"$T/clang-format-14"
chmod +x "$T/clang-format-14"
echo tidy >"$T/tidy.c"
echo untidy >"$T/untidy.c"
runs "a file that is laid out otherwise is named" 1 sh tests/format.sh check "$T/clang-format-14" "$T/tidy.c" \
    "$T/untidy.c"
stdout_has "untidy.c: not laid out"
check "the other is not named" test "$(grep -c "/tidy.c" "$T/stdout")" = 0
finish
