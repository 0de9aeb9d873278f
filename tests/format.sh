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
# One process for all files: each start of the tool costs as much as looking at six of them.
said=$("$tool" --dry-run -Werror "$@" 2>&1) && exit 0
echo "$said" | sed -n 's/:[0-9]*:[0-9]*: error: code should be clang-formatted.*//p' | sort -u |
    sed "s/\$/: not laid out as .clang-format says; run 'make format'/" | grep . || echo "$said"
exit 1
