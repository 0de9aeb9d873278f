#!/bin/sh
# sh tests/bench/many_captions.sh BUILD WORK TOKENIZER PREPARED N...: what weft-prep tokenize takes for a
# manifest of N lines, each that of PREPARED's first clip with a caption of its own: a line of a table
# each (take.sh).  PYTHON=path names an interpreter with sentencepiece: then the same by a script of ten
# lines stands beside it.  WORK is kept; what lies there already is used.
set -e
B=$1 work=$2 tokenizer=$3 one=$4
shift 4
. tests/bench/take.sh
for n in "$@"; do
    p="$work/captions-$n"
    if [ ! -e "$p/dataset.json" ]; then
        mkdir -p "$p"
        awk -v n="$n" 'NR == 1 { # weft-prep writes the id before the captions
            match($0, /"id":"[^"]*"/)
            before = substr($0, 1, RSTART - 1)
            rest = substr($0, RSTART + RLENGTH)
            match(rest, /"captions":\[[^]]*\]/)
            middle = substr(rest, 1, RSTART - 1)
            after = substr(rest, RSTART + RLENGTH)
            caption = "a woman in a red dress with long sleeves and a lace hem turns around."
            for (i = 1; i <= n; i++)
                printf "%s\"id\":\"clip-%07d\"%s\"captions\":[\"Number %d: %s\"]%s\n", before, i, middle, i, caption, after
        }' "$one/manifest.jsonl" >"$p/manifest.jsonl"
        sum=$(sha256sum <"$p/manifest.jsonl")
        sed -e "s/\"sha256\": \"[0-9a-f]*\"/\"sha256\": \"${sum%% *}\"/" -e "s/\"lines\": 1$/\"lines\": $n/" \
            -e "s/\"lines\": 1,/\"lines\": $n,/" -e "s/\"\\(sources\\|accepted\\)\": 1,/\"\\1\": $n,/" \
            "$one/dataset.json" >"$p/dataset.json"
    fi
    take tokenize "$B/weft-prep" tokenize "$p" --tokenizer "$tokenizer" --quiet
    if [ "$PYTHON" ]; then
        take "a script with sentencepiece" "$PYTHON" tests/bench/tokenize_captions.py "$tokenizer/spiece.model" "$p"
    fi
done
