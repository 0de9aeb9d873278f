#!/bin/sh
# format.sh check|write CLANG_FORMAT FILE...   lays the FILEs out as .clang-format says, or names those that are not.
# Versions of clang-format differ in details, so only version 14 (Debian 12) is asked; exit status
# 77 where it is not installed.
mode=$1
tool=$2
shift 2
found=$("$tool" --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
if [ "$found" != 14 ]; then
    echo "format: skipped: clang-format 14 is needed, found ${found:-none} (CLANG_FORMAT=clang-format-14 names another program)"
    exit 77
fi
if [ "$mode" = write ]; then
    exec "$tool" -i "$@"
fi
bad=0
for file; do
    "$tool" "$file" | cmp -s - "$file" || { echo "$file: not laid out as .clang-format says; run 'make format'";
        bad=1; }
done
exit $bad
