#!/bin/sh
# kill -9 of weft-cache build, gc, merge and import at seeded moments: after each nothing is
# damaged, and the command run again gives the records and entries of an undisturbed run.
# WEFT_KILLS (3) moments a command, SEED (1); `make cache-kills` tries 50.
. tests/cli/lib.sh
. tests/cli/cache_lib.sh
kills=${WEFT_KILLS:-3}
seed=${SEED:-1}
cache_inputs 6
check "a prepared dataset" prepare "$T/prep"
rm "$T/src/c6.mp4" "$T/src/c6.txt"
check "a smaller dataset" prepare "$T/fewer"
check "a cache" build "$T/one"
check "a cache of the smaller dataset" "$cache" build "$T/fewer" --out "$T/less" --model "$T/model" $small
for k in 0 1; do check "shard $k" build "$T/shards" --shard $k/2; done
check "an export" "$cache" export "$T/one" --out "$T/export"

begin_build() { rm -rf "$T/k"; }
again_build() { build "$T/k"; }
begin_gc() { rm -rf "$T/k" && cp -r "$T/one" "$T/k"; }
again_gc() { "$cache" gc "$T/k" --keep "$T/fewer" --compact; }
begin_merge() { rm -rf "$T/k"; }
again_merge() { "$cache" merge "$T/shards/shard-0-of-2" "$T/shards/shard-1-of-2" --out "$T/k" --quiet; }
begin_import() { rm -rf "$T/k"; }
again_import() { "$cache" import "$T/export" --out "$T/k"; }

if ! can_trace; then
    skip "kill -9 at any moment" "$no_trace"
    finish
fi
for command in build gc merge import; do
    case $command in
    build) set -- "$cache" build "$T/prep" --out "$T/k" --model "$T/model" $small ;;
    gc) set -- "$cache" gc "$T/k" --keep "$T/fewer" --compact ;;
    merge) set -- "$cache" merge "$T/shards/shard-0-of-2" "$T/shards/shard-1-of-2" --out "$T/k" --quiet ;;
    import) set -- "$cache" import "$T/export" --out "$T/k" ;;
    esac
    begin_$command
    counts "$command, undisturbed" 0 "$@"
    want="$T/one"
    killed=0
    unsound=0
    # the meta entry "dataset" of a cache that gc made smaller counts fewer clips and names the same
    # manifest: ls is compared for it
    [ $command = gc ] && want="$T/less"
    for k in $(seq "$kills"); do
        begin_$command
        killed_at_call "$(seeded "$seed$k" "$calls")" "$@" && killed=$((killed + 1))
        "$cache" verify "$T/k" >"$T/stdout" 2>"$T/stderr"
        status=$?
        # sound, or unfinished without damage; before the first commit there is no cache yet
        if [ $status != 0 ] && ! grep -q ", 0 damaged, unfinished" "$T/stdout" &&
            ! grep -qE "holds no cache|is unfinished" "$T/stderr"; then
            unsound=$((unsound + 1))
            fail "$command killed before call $lib_call: verify" "$(tail -2 "$T/stdout")" "$(tail -2 "$T/stderr")"
        fi
        again_$command >"$T/stdout" 2>"$T/stderr" || fail "$command killed before call $lib_call and run again" \
            "$(tail -3 "$T/stderr")"
        if [ $command = gc ]; then
            "$cache" ls --json "$T/k" >"$T/a"
            "$cache" ls --json "$want" >"$T/b"
            "$cache" verify "$T/k" >>"$T/a" 2>&1 || fail "gc killed before call $lib_call: verify at the end" \
                "$(tail -1 "$T/a")"
            sed -i '$d' "$T/a"
        else
            contents "$T/k" >"$T/a"
            contents "$want" >"$T/b"
        fi
        cmp -s "$T/a" "$T/b" || { unsound=$((unsound + 1)); fail "$command killed before call $lib_call: the same records" \
            "$(diff "$T/a" "$T/b" | head -3)"; }
    done
    if [ $unsound = 0 ]; then
        pass "$command: $killed of $kills runs killed on the way, none damaged, all ended alike"
    fi
done

# ---- Ctrl-C, to the workers too; by halves the moment is found that falls among the clips ----
early=0
set -- "$cache" build "$T/prep" --out "$T/k" --model "$T/model" $small
begin_build
counts "a build" 0 "$@"
late=$calls
for round in 1 2 3 4 5 6 7 8 9 10; do
    begin_build
    at=$(((early + late) / 2))
    at_call $at 'kill -s INT -- -$PID' "$@"
    if [ $status = 0 ]; then late=$at
    elif grep -qE "stopped after [1-5] of 6 clips; the same command goes on" "$T/stderr"; then break
    else early=$at; fi
done
lib_name="Ctrl-C among the clips, round $round"
check "Ctrl-C: exit status 130" test "$status" = 130
stderr_has "of 6 clips; the same command goes on from there"
check "Ctrl-C: one line at once and one at the end" test "$(wc -l <"$T/stderr")" = 2
kept=$(sed -n 's/.*stopped after \([0-9]*\) of 6 clips.*/\1/p' "$T/stderr")
again_build >"$T/stdout" 2>"$T/stderr"
# a text for each clip, and what is reused of both
reused=$(sed -n 's/.* \([0-9]*\) reused.*/\1/p' "$T/stdout")
check "Ctrl-C: the $kept clips that were done are not made again" test "${reused:-0}" -ge "$((6 + ${kept:-6}))"
contents "$T/one" >"$T/b"
contents "$T/k" >"$T/a"
check "Ctrl-C and run again: the same records" cmp "$T/a" "$T/b"
finish
