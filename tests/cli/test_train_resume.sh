#!/bin/sh
# weft-train: a checkpoint that cannot be read is never overwritten, the one that a run goes on from
# is never removed, a stop or a full disk leaves nothing behind, and what else than the recipe
# decides whether a run may go on.
. tests/cli/lib.sh
P=tests/golden/pipeline/model
W="$B/weft-train"
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
cp -r $P "$T/model"
SETS="--preset demo --quiet --jobs 1 --set training.checkpointing_steps=2"
train() { # OUT OPTION...
    train_out=$1
    shift
    "$W" run --cache "$T/a" --model "$T/model" --out "$T/$train_out" $SETS "$@"
}
steps() { echo "--set training.max_steps=$1"; }
checkpoints() { (cd "$T/$1" && ls -d checkpoint-* final | tr '\n' ' '); }
fresh() { rm -rf "$T/$1" && cp -r "$T/whole" "$T/$1"; }
runs "four steps" 0 train whole $(steps 4)
check "four steps: checkpoints" test "$(checkpoints whole)" = "checkpoint-2 checkpoint-4 final "
sums() { (cd "$T/$1" && find . -type f ! -name .lock -exec sha256sum {} + | sort); }

# ---- what cannot be read is left alone
fresh newer
for k in 2 4; do sed -i 's/"format": 1/"format": 2/' "$T/newer/checkpoint-$k/weft_state/state.json"; done
sums newer >"$T/before"
runs "checkpoints of a newer version" 1 train newer $(steps 6)
stderr_has "has format 2 and this weft-train reads format 1"
check "checkpoints of a newer version: nothing was written" sh -c \
    "sums() { (cd $T/newer && find . -type f ! -name .lock -exec sha256sum {} + | sort); }; sums | cmp - $T/before"
fresh loop
for f in weft_state/state.json weft_state/optimizer.safetensors transformer/config.json; do
    mv "$T/loop/checkpoint-4/$f" "$T/kept-file"
    ln -s "$(basename $f)" "$T/loop/checkpoint-4/$f"
    runs "$f cannot be opened" 1 train loop $(steps 6)
    stderr_has "checkpoint-4 cannot be used, and nothing was changed"
    check "$f cannot be opened: the log is whole" test "$(wc -l <"$T/loop/log.jsonl")" = 4
    rm "$T/loop/checkpoint-4/$f"
    mv "$T/kept-file" "$T/loop/checkpoint-4/$f"
done
if [ "$(id -u)" = 0 ]; then skip "no permission" "root reads everything"; else
    chmod 000 "$T/loop/checkpoint-4"
    runs "no permission" 1 train loop $(steps 6)
    stderr_has "Permission denied"
    chmod 755 "$T/loop/checkpoint-4"
fi
mv "$T/loop/checkpoint-4" "$T/elsewhere"
ln -s "$T/nowhere" "$T/loop/checkpoint-4"
runs "a checkpoint on a disk that is not mounted" 1 train loop $(steps 6)
stderr_has "is a link to something that does not exist"
rm "$T/loop/checkpoint-4"
ln -s "$T/elsewhere" "$T/loop/checkpoint-4"
runs "a checkpoint on another disk" 0 train loop $(steps 6)
runs "six steps" 0 train six $(steps 6)
same "a checkpoint on another disk: final" "$T/six/final" "$T/loop/final"
fresh torn
for k in 2 4; do truncate -s -100 "$T/torn/checkpoint-$k/weft_state/optimizer.safetensors"; done
sums torn >"$T/before"
runs "all checkpoints are damaged" 1 train torn $(steps 6)
stderr_has "all its checkpoints are damaged"
sums torn >"$T/after"
same "all checkpoints are damaged: nothing was written" "$T/before" "$T/after"
for part in scheduler vae text_encoder tokenizer model_index.json; do
    mv "$T/model/$part" "$T/kept-part"
    ln -s $part "$T/model/$part"
    runs "the model's $part cannot be opened" 1 train x $(steps 4)
    stderr_has "model/$part'"
    rm "$T/model/$part"
    mv "$T/kept-part" "$T/model/$part"
done

# ---- what is removed, and what is not
fresh limit
truncate -s -100 "$T/limit/checkpoint-4/weft_state/optimizer.safetensors"
rm -r "$T/limit/final"
at_call when "[ \$(wc -l <$T/limit/log.jsonl) -gt 4 ] && kill -9 \$PID" "$W" run --cache "$T/a" --model "$T/model" \
    --out "$T/limit" $SETS $(steps 6) --set training.checkpointing_steps=100000 --set training.checkpoints_total_limit=1
if [ $status = 125 ]; then skip "one kept, the newest damaged" "$no_trace"; else
    check "one kept, the newest damaged: the resumed one stays" test "$(cd "$T/limit" && ls -d checkpoint-*)" = \
        checkpoint-2
fi
runs "one kept: then the rest" 0 train limit $(steps 6) --set training.checkpoints_total_limit=1
check "one kept: only the last" test "$(checkpoints limit)" = "checkpoint-6 final "
same "one kept: weights" "$T/six/final/transformer" "$T/limit/final/transformer"

# ---- a stop between two checkpoints leaves no folder that an undisturbed run has not
LONG="--set training.num_epochs=1000 --set training.max_steps=150 --set training.checkpointing_steps=50"
runs "a longer run" 0 train long $LONG
for signal in TERM INT; do
    at_call when "[ \$(wc -l <$T/stop-$signal/log.jsonl) -gt 60 ] && kill -$signal \$PID" "$W" run --cache "$T/a" \
        --model "$T/model" --out "$T/stop-$signal" $SETS $LONG
    case $signal$status in
    TERM0 | INT0) check "stopped by $signal between two checkpoints" test ! -e "$T/stop-$signal/checkpoint-100" ;;
    *125) skip "stopped by $signal" "$no_trace" ;;
    *) fail "stopped by $signal: exit $status" "$(tail -3 "$T/stderr")" ;;
    esac
    runs "stopped by $signal, then run again" 0 train stop-$signal $LONG
    check "stopped by $signal: the same folders" test "$(checkpoints stop-$signal)" = "$(checkpoints long)"
    same "stopped by $signal: final" "$T/long/final" "$T/stop-$signal/final"
    same "stopped by $signal: checkpoint-100" "$T/long/checkpoint-100" "$T/stop-$signal/checkpoint-100"
done

# ---- a full disk (here: a file may not grow beyond 200 KiB; the moments take 285 kB)
limited() { # COMMAND...
    (trap '' XFSZ; ulimit -f "$limit" && "$@")
}
limit=$( (ulimit -f 2; dd if=/dev/zero of="$T/blocks" bs=512 count=8 2>/dev/null); [ "$(stat -c %s "$T/blocks")" = \
    1024 ] && echo 400 || echo 200) 2>/dev/null
runs "a full disk" 1 limited "$W" run --cache "$T/a" --model "$T/model" --out "$T/full" $SETS $(steps 4)
stderr_has "saving checkpoint-2"
stderr_has "training goes on without this checkpoint"
stderr_has "saving checkpoint-4"
check "a full disk: nothing unfinished is left" test "$(cd "$T/full" && ls)" = \
    "$(printf 'log.jsonl\nreport.html\nrun.json\ntensorboard')"
runs "room again" 0 train full $(steps 4)
same "room again: final" "$T/whole/final" "$T/full/final"

# ---- what else must be the same
cp -r "$T/model" "$T/copy"
moved() { # MODEL OUT OPTION...
    moved_model=$1
    moved_out=$2
    shift 2
    "$W" run --cache "$T/a" --model "$moved_model" --out "$T/$moved_out" $SETS "$@"
}
fresh moved
mv "$T/model" "$T/model-before"
runs "the model under another path" 0 moved "$T/copy" moved $(steps 6)
same "the model under another path: weights" "$T/six/final/transformer" "$T/moved/final/transformer"
same_weights() { cmp "$T/six/checkpoint-6/weft_state/optimizer.safetensors" \
    "$T/moved/checkpoint-6/weft_state/optimizer.safetensors"; }
check "the model under another path: moments" same_weights
mv "$T/model-before" "$T/model"
fresh schedule
sed -i 's/"snr_shift_scale": 3.0/"snr_shift_scale": 1.0/' "$T/copy/scheduler/scheduler_config.json"
runs "another noise schedule" 2 moved "$T/copy" schedule $(steps 6)
stderr_has "the base model's noise schedule is another one"
check "run.json names the build" grep -q '"compiler"' "$T/whole/run.json"
fresh build
sed -i 's/"compiler": "[^"]*"/"compiler": "gcc 1.0"/' "$T/build/checkpoint-4/weft_state/state.json"
runs "another build" 0 train build $(steps 6)
stderr_has "checkpoint-4 was computed by another build (compiler 'gcc 1.0' before"
same "another build: weights" "$T/six/final/transformer" "$T/build/final/transformer"
# ---- a disk that fails, or a file that is cut short, while it is mapped
cp -r "$T/a" "$T/cut"
ENDLESS="--set training.num_epochs=1000000 --set training.checkpoints_total_limit=2"
lib_name="a cache that is cut short while a run reads it"
if ! can_trace; then
    skip "$lib_name" "$no_trace"
    finish
fi
at_call when "[ -e $T/of-cut/checkpoint-2 ] && truncate -s 8192 $T/cut/data.mdb" "$W" run --cache "$T/cut" \
    --model "$T/model" --out "$T/of-cut" $SETS $ENDLESS $(steps 1000000)
check "$lib_name: exit 1, not a signal" test $status = 1
# found by the fault of a page that is gone, or by the next transaction
check "$lib_name: file and remedy" grep -Eq "cut(/data.mdb' became shorter while it was read|': data.mdb is cut short: \
it has 8192 bytes and its pages need [0-9]+); put a whole copy back" "$T/stderr"
rm -r "$T/cut"
cp -r "$T/a" "$T/cut"
last=$(ls "$T/of-cut" | sed -n 's/^checkpoint-\([0-9]*\)$/\1/p' | sort -n | tail -1)
runs "the run goes on when the cache is whole again" 0 "$W" run --cache "$T/cut" --model "$T/model" --out "$T/of-cut" \
    $SETS $ENDLESS $(steps $((last + 2)))
finish
