#!/bin/sh
# final/ links what training does not change; a checkpoint becomes a pipeline folder.
. tests/cli/lib.sh
W="$B/weft-train"
check "caches" "$B/tests/tools/train_fixture" tests/golden/pipeline/model "$T"
cp -r tests/golden/pipeline/model "$T/model" # links need one file system
V=vae/diffusion_pytorch_model.safetensors
SETS="--preset demo --cache $T/a --model $T/model --device cpu --jobs 1 --quiet --set max_steps=2 \
    --set checkpointing_steps=1 --set validation.clips=0"
inode() { stat -c %d:%i "$1"; }
is_link() { # NAME A B
    if [ "$(inode "$2")" = "$(inode "$3")" ]; then pass "$1"; else fail "$1" "$(ls -li "$2" "$3")"; fi
}
is_copy() { # NAME A B
    if [ "$(inode "$2")" != "$(inode "$3")" ] && cmp -s "$2" "$3"; then
        pass "$1"
    else
        fail "$1" "$(ls -li "$2" "$3")"
    fi
}

runs "a run" 0 "$W" run $SETS --out "$T/run"
is_link "final/ links the VAE" "$T/model/$V" "$T/run/final/$V"
check "the transformer is its own" test "$(stat -c %h "$T/run/final/transformer/diffusion_pytorch_model.safetensors")" \
    = 1
runs "the run again" 0 "$W" run $SETS --out "$T/run"
is_link "final/ stays" "$T/model/$V" "$T/run/final/$V"
runs "a run with copies" 0 "$W" run $SETS --out "$T/copies" --set export.copy=copy
is_copy "final/ copies the VAE" "$T/model/$V" "$T/copies/final/$V"
same "both have the same files" "$T/run/final/vae" "$T/copies/final/vae"
other=$(mktemp -d /dev/shm/weft-cli-XXXXXX 2>/dev/null)
if [ -n "$other" ] && [ "$(stat -c %d "$other")" != "$(stat -c %d "$T")" ]; then
    runs "a run on another file system" 0 "$W" run $SETS --out "$other/run"
    is_copy "copies where links cannot be" "$T/model/$V" "$other/run/final/$V"
else
    skip "another file system" "there is no second one"
fi
rm -rf "$other"

# ---- a checkpoint as a pipeline
runs "export" 0 "$W" export "$T/run/checkpoint-1" --out "$T/pipe"
stdout_has "$T/pipe"
same "the checkpoint's transformer" "$T/run/checkpoint-1/transformer" "$T/pipe/transformer"
for part in vae text_encoder tokenizer scheduler model_index.json; do
    [ -e "$T/model/$part" ] && same "its $part" "$T/model/$part" "$T/pipe/$part"
done
check "no state of the run" test ! -e "$T/pipe/weft_state"
is_link "links by default" "$T/model/$V" "$T/pipe/$V"
runs "export with copies" 0 "$W" export "$T/run/checkpoint-2" --out "$T/pipe2" --copy copy
is_copy "copies when asked to" "$T/model/$V" "$T/pipe2/$V"
same "the last checkpoint is final/" "$T/run/final/transformer" "$T/pipe2/transformer"
runs "export of final/" 0 "$W" export "$T/run/final" --out "$T/pipe3" --model "$T/model"
runs "weft-infer opens it" 0 "$B/weft-infer" sample --preset demo --device cpu --model "$T/pipe" --prompt x \
    --out "$T/samples" --dry-run
runs "into a folder with files" 2 "$W" export "$T/run/checkpoint-1" --out "$T/pipe"
stderr_has "exists and is not empty"
runs "no checkpoint" 1 "$W" export "$T/model" --out "$T/x"
stderr_has "is no checkpoint of weft-train"
cp -r "$T/run/checkpoint-1" "$T/torn"
printf x | dd of="$T/torn/transformer/diffusion_pytorch_model.safetensors" bs=1 seek=3000 conv=notrunc 2>/dev/null
runs "a damaged checkpoint" 1 "$W" export "$T/torn" --out "$T/x"
stderr_has "has other bytes than were written"
mv "$T/model" "$T/moved"
runs "a base model that moved" 1 "$W" export "$T/run/checkpoint-1" --out "$T/x"
stderr_has "give --model FOLDER"
check "nothing was made" test ! -e "$T/x"
runs "and where it is now" 0 "$W" export "$T/run/checkpoint-1" --out "$T/x" --model "$T/moved"
finish
