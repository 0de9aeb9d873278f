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
        awk -v n="$n" 'NR == 1 {
            line = $0
            for (i = 1; i <= n; i++) {
                text = line
                id = sprintf("clip-%07d", i)
                caption = "Number " i ": a woman in a red dress with long sleeves and a lace hem turns around."
                sub(/"id":"[^"]*"/, "\"id\":\"" id "\"", text)
                sub(/"captions":\[[^]]*\]/, "\"captions\":[\"" caption "\"]", text)
                print text
            }
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
