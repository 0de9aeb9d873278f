#!/bin/sh
# weft-infer sample on the tiny pipeline diffusers saved: what it writes, what it reuses, what it
# refuses, kill -9, threads.
. tests/cli/lib.sh
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
SMALL="--preset demo --device cpu --model $MODEL --set sampling.num_frames=9 --set sampling.width=32 \
    --set sampling.height=48"
sample() { "$INFER" sample $SMALL "$@"; }

runs "samples" 0 sample --out "$T/a" --prompt "A red dress." --prompt "A blue coat." --seed 42 \
    --set sampling.num_inference_steps=4 \
    --latents-out "$T/a.safetensors" --save-frames
stdout_has "$T/a/a-blue-coat-43.mp4"
stderr_has "2 sampled, 0 reused"
check "nine pictures a sample" test "$(ls "$T/a/a-red-dress-42" | wc -l)" = 9
check "the prompt stands in the file" grep -q "A red dress." "$T/a/a-red-dress-42.mp4"
runs "again" 0 sample --out "$T/a" --prompt "A red dress." --prompt "A blue coat." --seed 42 \
    --set sampling.num_inference_steps=4 \
    --latents-out "$T/a.safetensors" --save-frames
stderr_has "0 sampled, 2 reused"
runs "other settings would replace it" 2 sample --out "$T/a" --prompt "A red dress." --seed 42 \
    --set sampling.num_inference_steps=5
stderr_has "--overwrite"
rm "$T/a/a-red-dress-42/0008.png"
runs "a missing picture is made again" 0 sample --out "$T/a" --prompt "A red dress." --prompt "A blue coat." --seed 42 \
    --set sampling.num_inference_steps=4 --latents-out "$T/a.safetensors" --save-frames
stderr_has "1 sampled, 1 reused"

: >"$T/a/a-blue-coat-43/0003.png"
head -c 100 "$T/a/a-red-dress-42.mp4" >"$T/cut.mp4" && mv "$T/cut.mp4" "$T/a/a-red-dress-42.mp4"
runs "damaged files are made again" 0 sample --out "$T/a" --prompt "A red dress." --prompt "A blue coat." --seed 42 \
    --set sampling.num_inference_steps=4 --latents-out "$T/a.safetensors" --save-frames
stderr_has "2 sampled, 0 reused"
stderr_has "made again"
cp -r $MODEL "$T/other"
sed 's/1.875/1.5/' $MODEL/transformer/config.json >"$T/other/transformer/config.json"
runs "another config is another sample" 2 "$INFER" sample --preset demo --device cpu --model "$T/other" \
    --set sampling.num_frames=9 \
    --set sampling.width=32 --set sampling.height=48 --out "$T/a" --prompt "A red dress." --prompt "A blue coat." \
        --seed 42 \
    --set sampling.num_inference_steps=4
stderr_has "--overwrite"
sed 's/"num_layers"/"num_layer": 3, "num_layers"/' $MODEL/transformer/config.json >"$T/other/transformer/config.json"
runs "an unknown key of the transformer" 1 "$INFER" sample --preset demo --device cpu --model "$T/other" --out "$T/x" \
    --prompt x
stderr_has "num_layer"

# Shards: each makes its own, together they are the whole.
runs "all in one" 0 sample --out "$T/one" --prompt a --prompt b --prompt c --set sampling.num_inference_steps=2
runs "shard 0" 0 sample --out "$T/two" --prompt a --prompt b --prompt c --set sampling.num_inference_steps=2 --shard 0/2
stderr_has "2 sampled, 0 reused"
check "the contact sheet waits for the last shard" test ! -e "$T/two/contact.png"
check "and the page does not name it" sh -c "! grep -q contact.png '$T/two/index.html'"
runs "shard 1" 0 sample --out "$T/two" --prompt a --prompt b --prompt c --set sampling.num_inference_steps=2 --shard 1/2
stderr_has "1 sampled, 0 reused"
rm -f "$T/one/.lock" "$T/two/.lock"
same "shards make the same" "$T/one" "$T/two"
runs "shards cannot share a latents file" 2 sample --out "$T/x" --prompt a --shard 0/2 --latents-out "$T/x.st"

# The number of threads changes no bit, of the latents or of the file.
OMP_NUM_THREADS=1 runs "one thread" 0 sample --out "$T/t1" --prompt "A red dress." --seed 5 \
    --set sampling.num_inference_steps=3 --latents-out "$T/t1.st"
OMP_NUM_THREADS=2 runs "two threads" 0 sample --out "$T/t2" --prompt "A red dress." --seed 5 \
    --set sampling.num_inference_steps=3 --latents-out "$T/t2.st"
same "same latents" "$T/t1.st" "$T/t2.st"
same "same files" "$T/t1" "$T/t2"

# Killed at several moments and run again: the end state of an undisturbed run.
THREE="$SMALL --seed 9 --set sampling.scheduler=dpm --set sampling.num_inference_steps=25 --save-frames --prompt one \
    --prompt two --prompt three"
counts "undisturbed" 0 "$INFER" sample $THREE --out "$T/whole" --latents-out "$T/whole.st"
killed_often 4 $((calls / 2)) "$INFER" sample $THREE --out "$T/cut" --latents-out "$T/cut.st"
runs "run again" 0 "$INFER" sample $THREE --out "$T/cut" --latents-out "$T/cut.st"
same "same videos, pictures, records" "$T/whole" "$T/cut"
same "same latents after kills" "$T/whole.st" "$T/cut.st"

# 48 frames are written from 49.
runs "48 frames" 0 "$INFER" sample --preset demo --device cpu --model $MODEL --out "$T/48" --prompt x \
    --set sampling.width=32 --set sampling.height=48 \
    --set sampling.num_inference_steps=1 --save-frames
check "48 pictures" test "$(ls "$T/48/x-0" | wc -l)" = 48

# Prompts from files.
printf 'A red dress.\r\nA blue coat.\n' >"$T/list.txt"
runs "a list" 0 sample --dry-run --out "$T/x" --prompts "$T/list.txt"
stdout_has "a-blue-coat-1  seed 1  A blue coat."
stdout_has "working memory"
check "a dry run writes nothing" test ! -e "$T/x"
printf '{"prompt": "A coat.", "id": "coat", "seed": 7}\n{"prompt": ""}\n' >"$T/list.jsonl"
runs "objects" 0 sample --dry-run --out "$T/x" --prompts "$T/list.jsonl"
stdout_has "coat  seed 7  A coat."
printf 'one\n\nthree\n' >"$T/blank.txt"
runs "a blank line" 1 sample --dry-run --out "$T/x" --prompts "$T/blank.txt"
stderr_has "line 2"
printf '{"prompt": "a", "id": "same"}\n{"prompt": "b", "id": "same"}\n' >"$T/twice.jsonl"
runs "an id twice" 2 sample --dry-run --out "$T/x" --prompts "$T/twice.jsonl"
stderr_has "'same'"
printf '{"prompt": "a", "id": "../up"}\n' >"$T/up.jsonl"
runs "an id that leaves the folder" 2 sample --dry-run --out "$T/x" --prompts "$T/up.jsonl"
stderr_has "../up"
printf '{"prompt": "a", "sead": 1}\n' >"$T/key.jsonl"
runs "an unknown key" 1 sample --dry-run --out "$T/x" --prompts "$T/key.jsonl"
stderr_has "seed"
printf 'one\n\377\376\n' >"$T/bytes.txt"
runs "not UTF-8" 1 sample --dry-run --out "$T/x" --prompts "$T/bytes.txt"
stderr_has "line 2: the prompt is not UTF-8"
printf '{"prompt": "a", "seed": 3}\n{"prompt": "A!", "seed": 3}\n' >"$T/alike.jsonl"
runs "two videos of one name" 2 sample --dry-run --out "$T/x" --prompts "$T/alike.jsonl"
stderr_has "line 2: the video would be named 'a-3', as that of prompt 0 is"
printf '{"prompt": "a", "category": "../x"}\n' >"$T/category.jsonl"
runs "a category that leaves the folder" 2 sample --dry-run --out "$T/x" --prompts "$T/category.jsonl"
stderr_has "line 1: category '../x'"
printf '{"prompt": "a", "steps": 0}\n' >"$T/steps.jsonl"
runs "no steps" 1 sample --dry-run --out "$T/x" --prompts "$T/steps.jsonl"
stderr_has "line 1: 'steps': expected at least 1, found 0"
: >"$T/empty.txt"
runs "an empty file" 2 sample --dry-run --out "$T/x" --prompts "$T/empty.txt"
stderr_has "empty.txt' is empty; expected one prompt a line"
runs "no prompt" 2 sample --dry-run --out "$T/x"
stderr_has "nothing to sample"
for file in array.json objects.txt lines.json; do
    echo '{"prompt": "a red dress"}' >"$T/$file"
    case $file in array.json) echo '[{"prompt": "a red dress"}]' >"$T/$file" ;; lines.json) echo "a red dress" >"$T/$file" ;; esac
    runs "objects that would be read as text, $file" 1 sample --dry-run --out "$T/x" --prompts "$T/$file"
    stderr_has "$file: line 1: expected the ending .jsonl"
done
printf '{"prompt": "a", "id": "index"}\n' >"$T/index.jsonl"
runs "the index's name" 2 sample --dry-run --out "$T/x" --prompts "$T/index.jsonl"
stderr_has "choose another id"
printf '{"prompt": "a", "category": "index.html"}\n' >"$T/index.jsonl"
runs "the page's name" 2 sample --dry-run --out "$T/x" --prompts "$T/index.jsonl"
stderr_has "line 1: 'index.html' is the name of a file that shows all videos; choose another category"

# Names, categories and settings of prompts' own; several videos of each.
cat >"$T/own.jsonl" <<'END'
{"prompt": "A red dress.", "category": "dress", "seed": 5, "steps": 3, "guidance": 2, "negative_prompt": "grey"}
{"prompt": "A red dress.", "category": "dress", "seed": 7}
{"prompt": "A Über-coat, \"new\"", "category": "outer wear", "guidance": 1}
{"prompt": "x", "id": "named"}
END
runs "prompts with settings of their own" 0 sample --out "$T/own" --prompts "$T/own.jsonl" --seed 40 --steps 2
stdout_has "$T/own/dress/a-red-dress-5.mp4"
stdout_has "$T/own/dress/a-red-dress-7.mp4"
stdout_has "$T/own/outer wear/a-über-coat-new-42.mp4"
stdout_has "$T/own/named.mp4"
check "the category stands in the record" grep -q '"category": "dress"' "$T/own/dress/a-red-dress-5.json"
check "the file is named in its folder" grep -q '"file": "a-red-dress-5.mp4"' "$T/own/dress/a-red-dress-5.json"
runs "again" 0 sample --out "$T/own" --prompts "$T/own.jsonl" --seed 40 --steps 2
stderr_has "0 sampled, 4 reused"
runs "the first alone, by options" 0 sample --out "$T/alone" --prompt "A red dress." --seed 5 --steps 3 --guidance 2 \
    --negative-prompt grey
pixels() { grep -o '"rgb_sha256": "[0-9a-f]*"' "$1"; }
check "its own settings or the options': the same pixels" test \
    "$(pixels "$T/alone/a-red-dress-5.json")" = "$(pixels "$T/own/dress/a-red-dress-5.json")"
runs "several videos of a prompt" 0 sample --out "$T/several" --prompt "A red dress." --prompt "A coat." --seed 5 \
    --steps 2 --videos-per-prompt 2 --dry-run
stdout_has "a-red-dress-6  seed 6  A red dress."
stdout_has "a-coat-7  seed 7  A coat."
printf '{"prompt": "x", "id": "named", "seed": 3}\n' >"$T/named.jsonl"
runs "several videos of a named prompt" 0 sample --out "$T/several" --prompts "$T/named.jsonl" --videos-per-prompt 2 \
    --dry-run
stdout_has "  named-3  seed 3"
stdout_has "  named-4  seed 4"
mkdir "$T/taken" && : >"$T/taken/dress"
runs "a file in a category's place" 2 sample --out "$T/taken" --prompts "$T/own.jsonl" --dry-run
stderr_has "would be the folder of a category"

# Requests that cannot be met.
runs "no prompt" 2 sample --out "$T/x"
runs "no model" 2 "$INFER" sample --preset demo --out "$T/x" --prompt x
stderr_has "model.base_model"
runs "a model that is not there" 1 "$INFER" sample --preset demo --model "$T/nowhere" --out "$T/x" --prompt x
stderr_has "$T/nowhere"
runs "a frame count the model cannot make" 2 sample --set sampling.num_frames=12 --out "$T/x" --prompt x
stderr_has "12"
runs "a size that is no multiple of 16" 2 sample --set sampling.width=40 --out "$T/x" --prompt x
runs "an unknown recipe key" 2 sample --set sampling.steps=3 --out "$T/x" --prompt x
stderr_has "sampling.steps"
runs "a misspelt option" 2 sample --promt x --out "$T/x"
stderr_has "--prompt"

# A damaged model: every fault named at once, nothing written.
cp -r $MODEL "$T/damaged"
head -c 60000 $MODEL/transformer/diffusion_pytorch_model.safetensors \
    >"$T/damaged/transformer/diffusion_pytorch_model.safetensors"
runs "a truncated weight file" 1 "$INFER" sample --preset demo --device cpu --model "$T/damaged" --out "$T/x" --prompt x
stderr_has "diffusion_pytorch_model.safetensors"
check "nothing was written" test ! -e "$T/x"
finish
