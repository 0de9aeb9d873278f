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
cat >"$T/clang-format-14" <<'END'
#!/bin/sh
[ "$1" = --version ] && echo "clang-format version 14.0.6" && exit
for file; do
    case $file in *untidy*) for line in 1 2; do
        echo "$file:$line:1: error: code should be clang-formatted [-Wclang-format-violations]"
        echo "void f( ) {"
    done; bad=1 ;; esac
done >&2
[ -z "$bad" ]
END
chmod +x "$T/clang-format-14"
runs "a file that is laid out otherwise is named" 1 sh tests/format.sh check "$T/clang-format-14" "$T/tidy.c" \
    "$T/untidy.c"
stdout_has "untidy.c: not laid out"
check "once, and no other" test "$(wc -l <"$T/stdout")" = 1
runs "files that are laid out well" 0 sh tests/format.sh check "$T/clang-format-14" "$T/tidy.c"
printf '#!/bin/sh\n[ "$1" = --version ] && echo "clang-format version 14.0.6" || { echo "no such file" >&2; exit 1; }\n' \
    >"$T/clang-format-14"
runs "what else it says is shown" 1 sh tests/format.sh check "$T/clang-format-14" "$T/none.c"
stdout_has "no such file"
finish
