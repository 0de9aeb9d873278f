# Sourced by tests/cli/test_cache_*.sh after lib.sh: a small prepared dataset, its model, and what a cache holds.
cache="$B/weft-cache"
small="--preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=32 \
    --set clip.height=64 --set clip.min_side=16 --set clip.model_frames=9 --set clip.num_frames=8"
small="$small --set model.text_length=32 --quiet"

# Clips c1 ... cN, their captions, in $T/src; the model in $T/model.
cache_inputs() { # N
    mkdir "$T/src"
    for i in $(seq "$1"); do
        "$B/tests/tools/make_clip" "$T/src/c$i.mp4" 32 64 30 40 "$i" || fail "make c$i"
        echo "Clip number $i, a dress." >"$T/src/c$i.txt"
    done
    check "encoders" "$B/tests/tools/make_encoders" "$T/model"
}
prepare() { # OUT
    "$B/weft-prep" ingest "$T/src" --out "$1" $small && "$B/weft-prep" tokenize "$1" --tokenizer "$T/model/tokenizer" \
        $small
}
build() { # CACHE [OPTION...]
    build_out=$1
    shift
    "$cache" build "$T/prep" --out "$build_out" --model "$T/model" $small "$@"
}
# Everything that a cache says of itself, record checksums included.
contents() { # CACHE
    "$cache" show "$1" && "$cache" ls "$1" | sed '$d' && "$cache" show "$1" $("$cache" ls "$1" | sed '$d' | cut -f1)
}
same_contents() { # NAME A B
    contents "$2" >"$T/contents.a"
    contents "$3" >"$T/contents.b"
    if [ -s "$T/contents.a" ] && cmp -s "$T/contents.a" "$T/contents.b"; then pass "$1"
    else fail "$1" "$(diff "$T/contents.a" "$T/contents.b" | head -5)"; fi
}
