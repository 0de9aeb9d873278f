#!/bin/sh
# The recipe as people write it, given to all four programs; what is wrong with one comes in one go.
. tests/cli/lib.sh
M=tests/golden/pipeline/model
R=tests/recipes/as-written.yaml
check "caches" "$B/tests/tools/train_fixture" $M "$T"
check "encoders" "$B/tests/tools/make_encoders" "$T/model"
mkdir "$T/src" "$T/home"
check "a clip" "$B/tests/tools/make_clip" "$T/src/c1.mp4" 32 64 30 40 1
echo "A dress." >"$T/src/c1.txt"
small="--preset demo --set clip.width=32 --set clip.height=64 --set clip.min_side=16 --set clip.model_frames=9 \
    --set clip.num_frames=8 --set model.text_length=32 --set quality.mode=warn"
export HF_HOME="$T/home"
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE

# ---- accepted as it stands
runs "weft-prep takes the recipe" 0 "$B/weft-prep" ingest "$T/src" --out "$T/prep" $small --config $R
runs "and its tokens" 0 "$B/weft-prep" tokenize "$T/prep" --tokenizer "$T/model/tokenizer" --config $R
stdout_has "of 32 tokens, 0 cut"
runs "weft-cache takes the recipe" 0 "$B/weft-cache" build "$T/prep" --out "$T/cache" --model "$T/model" --config $R \
    --device cpu
runs "weft-infer takes the recipe" 0 "$B/weft-infer" sample --preset demo --config $R --model $M --prompt x \
    --out "$T/samples" --device cpu --dry-run
runs "weft-train takes the recipe" 0 "$B/weft-train" run --config $R --cache "$T/a" --model $M --out "$T/run" \
    --device cpu --set mixed_precision=no --set num_epochs=2
stderr_has "the recipe says training_videos 480, but this run has 5"
stderr_has "the recipe says total_steps about 2400, but this run has 2"
stderr_has "time: "
stderr_has "(measured on cpu)"
check "it trained" test -f "$T/run/final/transformer/diffusion_pytorch_model.safetensors"
runs "a contradiction" 2 "$B/weft-train" plan --config $R --cache "$T/a" --model $M --set gradient_accumulation_steps=4
stderr_has "the recipe says effective_batch_size 16, but this run has 8"

# ---- what plan and run say of it
runs "plan" 0 "$B/weft-train" plan --config $R --cache "$T/a" --model $M
stdout_has "time               A100 80GB: "
stdout_has "the recipe says    62 minutes (predicted: "
stdout_has "~76GB (predicted: "
stdout_has "disk               1 checkpoint of 499 kB to save"
stderr_has "training.warmup_steps is 100, but the run has 10 steps: the rate rises to 4.5e-07 and never reaches"
stderr_has "checkpoint-500 never comes"
stderr_has "5 clips to train on, but batch_size x gradient_accumulation_steps is 16"
runs "a time that is none" 2 "$B/weft-train" plan --config $R --cache "$T/a" --model $M --set training_time=soon
stderr_has "expected text such as \"62 minutes\" or \"~3h\", found \"soon\""
runs "a quoted number" 2 "$B/weft-train" plan --config $R --cache "$T/a" --model $M --set 'batch_size="2"'
stderr_has "expected integer without quotes, found \"2\""
runs "a number that vanishes" 2 "$B/weft-train" plan --config $R --cache "$T/a" --model $M --set learning_rate=1e-400
stderr_has "'training.learning_rate': read as JSON:1:1: the number 1e-400 is too small to be told from 0"
runs "such a number in an object, and one that is too large" 2 "$B/weft-train" plan --cache "$T/a" --model $M \
    --set 'category_weights={"a": 1e-400}' --set batch_size=99999999999999999999 --set 'validation.prompts=["a'
stderr_has "'training.category_weights': read as JSON:1:7: the number 1e-400 is too small to be told from 0"
stderr_has "'training.batch_size': read as JSON:1:20: too big integer"
stderr_has "'validation.prompts': read as JSON:1:3: premature end of input"
runs "a text that looks like JSON" 0 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --set captions.trigger=[V]
printf '{\n  "training": {"learning_rate": 1e-400}}' >"$T/tiny.json"
runs "such a number in a file" 2 "$B/weft-train" plan --preset demo --config "$T/tiny.json" --cache "$T/a" --model $M
stderr_has "tiny.json:2:33: the number 1e-400 is too small to be told from 0"
printf '\357\273\277{"training": {"learning_rate": 0.00123}}' >"$T/mark.json"
runs "a JSON recipe with a byte order mark" 0 "$B/weft-train" plan --preset demo --config "$T/mark.json" \
    --cache "$T/a" --model $M
stderr_has "training.learning_rate = 0.00123"
runs "an adapter larger than its layer" 0 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --set rank=8000 \
    --set vram_usage=24G
stderr_has "training.lora_rank is 8000, but the model's layers are 32 wide"
stdout_has "24G (predicted: "
runs "an average that never begins" 0 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --set ema=true \
    --set ema_start=9 --set max_steps=10
stderr_has "training.ema_start is 9, but the run has 10 steps: nothing is averaged"
runs "an average that begins" 0 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --set ema=true \
    --set ema_start=8 --set max_steps=10
check "no warning of it" sh -c "! grep -q 'nothing is averaged' $T/stderr"
printf '\357\273\277' >"$T/mark.yaml"
runs "a YAML of a byte order mark alone" 0 "$B/weft-train" plan --preset demo --config "$T/mark.yaml" --cache "$T/a" \
    --model $M
runs "plan on this machine" 0 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --device cpu \
    --set learning_rate=0.5 --set expected.training_time=2h
stdout_has "(measured on cpu)"
stdout_has "the recipe says    2h (predicted: "
stderr_has "training.learning_rate is 0.5: more than about 1e-02 breaks"
check "no other warning" test "$(grep -c warning: "$T/stderr")" = 1
runs "settings for a small memory" 0 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --device cpu --fit 2.2M --by 8h --quiet
sed -n '/^training:/,$p' "$T/stdout" >"$T/fit.yaml"
runs "are a recipe" 0 "$B/weft-train" run --preset demo --config "$T/fit.yaml" --cache "$T/a" --model $M --device cpu --out "$T/fitted" --set max_steps=1
check_planned "and fit" sh -c "awk '/memory_bytes/{m=1} m && /measured/{sub(\",\",\"\"); exit !(\$2 > 0 && \$2 <= 2.2e6)}' '$T/fitted/prediction.json'"
runs "no settings are small enough" 1 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --device cpu --fit 100k --quiet
stderr_has "nothing fits 100 kB: the least that was found is"
runs "no quantity" 2 "$B/weft-train" plan --preset demo --cache "$T/a" --model $M --device cpu --fit much --quiet
stderr_has "--fit: 'much': expected a number and a unit, such as 24G"
check "prediction and measurement are kept" grep -q '"step_seconds"' "$T/run/prediction.json"
check "also in the log, with the last step alone" test "$(grep -n '"prediction":{"memory_bytes":{"predicted":[0-9.]*,"measured":' \
    "$T/run/log.jsonl" | cut -d: -f1)" = "$(wc -l <"$T/run/log.jsonl")"
memory() { tr -d ' \n' <"$1" | grep -o '"memory_bytes":{[^}]*}' | sed 's/\.0//g'; }
check "the log's memory is that of prediction.json" test "$(memory "$T/run/log.jsonl")" = "$(memory "$T/run/prediction.json")"

# ---- stored recipes are recipes
runs "run.json as a recipe" 0 "$B/weft-train" plan --config "$T/run/run.json" --cache "$T/a" --model $M
stdout_has "a step is 8 passes of 2 samples"
runs "dataset.json as a recipe" 0 "$B/weft-cache" build "$T/prep" --out "$T/cache" --model "$T/model" \
    --config "$T/prep/dataset.json" --device cpu
stdout_has "reused"
runs "a run resumed from its run.json" 0 "$B/weft-train" run --config "$T/run/run.json" --cache "$T/a" --model $M \
    --out "$T/run" --device cpu

# ---- the model
for program in "prep ingest $T/src" "cache build $T/prep" "infer sample --prompt x" "train run --cache $T/a"; do
    case $program in prep*) continue ;; esac
    runs "no such model: $program" 1 "$B/weft-"$program --config $R --out "$T/x"
    stderr_has "hf download THUDM/CogVideoX-2b --local-dir DIR"
    stderr_has "$T/home/hub"
done
mkdir -p "$T/home/hub/models--zai-org--CogVideoX-2b/snapshots"
cp -r $M "$T/home/hub/models--zai-org--CogVideoX-2b/snapshots/abc"
runs "the model in Hugging Face's cache" 0 "$B/weft-train" plan --config $R --cache "$T/a"
stderr_has "snapshots/abc"

# ---- all problems at once
cat >"$T/bad.yaml" <<'EOF'
learning_rat: 1e-5
batch_size: 0
optimizer: Lion
guidance: 6
EOF
for program in prep cache infer train; do
    case $program in
    prep) set -- ingest "$T/src" --out "$T/x" ;;
    cache) set -- build "$T/prep" --out "$T/x" ;;
    infer) set -- sample --prompt x --out "$T/x" ;;
    train) set -- run --cache "$T/a" --out "$T/x" ;;
    esac
    runs "weft-$program names all problems" 2 "$B/weft-$program" "$@" --config "$T/bad.yaml" --set sampling.width=100
    stderr_has "the recipe has 5 problems:"
    stderr_has "$T/bad.yaml: unknown key 'learning_rat'; did you mean 'training.learning_rate'?"
    stderr_has "$T/bad.yaml: 'training.batch_size': expected at least 1, found 0"
    stderr_has "$T/bad.yaml: 'training.optimizer': expected"
    stderr_has "--set: 'sampling.width': expected a multiple of 16 (the nearest are 96 and 112), found 100"
    runs "weft-$program keys" 0 "$B/weft-$program" keys warmup_steps
    stdout_has "training.warmup_steps = 100"
done

# ---- what the dataset or the cache fixed
cp -r $M/transformer $M/scheduler $M/model_index.json "$T/model/"
# as the encoders are
sed -i 's/"text_embed_dim": 32/"text_embed_dim": 16/; s/"max_text_seq_length": 226/"max_text_seq_length": 32/' \
    "$T/model/transformer/config.json"
runs "another size than the cache's" 2 "$B/weft-train" plan --cache "$T/cache" --model "$T/model" --preset demo \
    --set mixed_precision=bf16 --set clip.width=64
stderr_has "'clip.width' is 64 in --set, but '$T/cache' was made with 32"
finish
