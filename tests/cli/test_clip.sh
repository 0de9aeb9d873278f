#!/bin/sh
# A transformer conditioned by CLIP, from captions to samples, with a model that diffusers saved; and each way in which
# T5 and CLIP could be taken for each other.
. tests/cli/lib.sh
. tests/cli/cache_lib.sh
small=${small% --set model.text_length=32 --quiet}
small="$small --quiet"
cache_inputs 3
clip=tests/golden/clip_pipeline/model
long="She wears a blue coat, the lady's shirt isn't white! It is 2024, her jacket is grey, "
long="${long}and she walks along the catwalk in the city, and the end of it is lost"
echo "$long" >"$T/src/c3.txt"
prep="$B/weft-prep" cache="$B/weft-cache" train="$B/weft-train" infer="$B/weft-infer"
check "a prepared dataset" "$prep" ingest "$T/src" --out "$T/prep" $small

# ---- captions: 77 tokens, where the dataset's recipe says 226 ----
runs "tokenize for CLIP" 0 "$prep" tokenize "$T/prep" --tokenizer $clip/tokenizer
stdout_has "of 77 tokens, 1 cut"
stdout_has "tokens of CLIP:"
stderr_has "clip 'c3': its caption has"
stderr_has "cut off: '"
stderr_has "it is lost'"
check "its lines say whose ids they are" sh -c 'test "$(grep -c "\"text_encoder\":\"clip\"" "$0")" = 3' \
    "$T/prep/tokens.jsonl"
cp "$T/prep/tokens.jsonl" "$T/tokens.clip"
runs "tokenize with tokenizer.json alone" 0 "$prep" tokenize "$T/prep" \
    --tokenizer tests/golden/clip_pipeline/tokenizer_5 --set model.text_encoder=clip
check "the same ids and digest" cmp "$T/tokens.clip" "$T/prep/tokens.jsonl"
runs "tokenize: T5 where CLIP is asked for" 2 "$prep" tokenize "$T/prep" --tokenizer "$T/model/tokenizer" \
    --set model.text_encoder=clip
stderr_has "holds the tokeniser of T5, but the text encoder is CLIP (merges.txt with vocab.json, or tokenizer.json)"
runs "tokenize: more tokens than CLIP has" 2 "$prep" tokenize "$T/prep" --tokenizer $clip/tokenizer \
    --set model.text_length=78
stderr_has "model.text_length is 78, but CLIP reads at most 77 tokens"
cp -r $clip/tokenizer "$T/tokenizer"
rm "$T/tokenizer/merges.txt"
runs "tokenize without merges.txt" 1 "$prep" tokenize "$T/prep" --tokenizer "$T/tokenizer"
stderr_has "has none of spiece.model (T5), merges.txt with vocab.json (CLIP) and tokenizer.json"
sed '$d' $clip/tokenizer/merges.txt >"$T/tokenizer/merges.txt"
runs "tokenize with a merge less than vocab.json" 1 "$prep" tokenize "$T/prep" --tokenizer "$T/tokenizer"
stderr_has "574 tokens, but the merges make 573 with the two marks"
cp $clip/tokenizer/merges.txt "$T/tokenizer"
echo '{"pad_token": {"content": "!"}}' >"$T/tokenizer/special_tokens_map.json"
runs "tokenize with other padding" 1 "$prep" tokenize "$T/prep" --tokenizer "$T/tokenizer"
stderr_has "pads with '!'"
rm "$T/tokenizer/special_tokens_map.json"
cp "$T/model/tokenizer/spiece.model" "$T/tokenizer"
runs "tokenize with both kinds of files" 2 "$prep" tokenize "$T/prep" --tokenizer "$T/tokenizer"
stderr_has "set model.text_encoder to t5 or clip"
runs "tokenize with both, and told which" 0 "$prep" tokenize "$T/prep" --tokenizer "$T/tokenizer" \
    --set model.text_encoder=clip
check "the captions are as they were" cmp "$T/tokens.clip" "$T/prep/tokens.jsonl"

# ---- a cache of CLIP's hidden states ----
runs "dry run" 0 "$cache" build "$T/prep" --out "$T/clip" --model $clip $small --dry-run
stdout_has "memory, CLIP:"
runs "build" 0 "$cache" build "$T/prep" --out "$T/clip" --model $clip $small
stdout_has "3 clips, 4 texts: 7 computed"
runs "build again" 0 "$cache" build "$T/prep" --out "$T/clip" --model $clip $small
stdout_has "7 reused"
runs "show" 0 "$cache" show "$T/clip"
stdout_has '"model_type": "clip_text_model"'
stdout_has '"length": 77'
stdout_has '"text_length": 77'
runs "verify --deep" 0 "$cache" verify "$T/clip" --deep 2 --prepared "$T/prep" --model $clip
stdout_has "0 differing"
runs "gc of a new cache" 0 "$cache" gc "$T/clip" --dry-run
stdout_has "0 clips and 0 records of 0 bytes would be dropped"
runs "stats" 0 "$cache" stats "$T/clip"
runs "export" 0 "$cache" export "$T/clip" --out "$T/export"
runs "import" 0 "$cache" import "$T/export" --out "$T/imported"
same_contents "import gives back what export wrote" "$T/clip" "$T/imported"
rm "$T/export/export.json"
runs "import by the model" 0 "$cache" import "$T/export" --out "$T/imported2" --model $clip $small
runs "the recipe wants T5" 2 "$cache" build "$T/prep" --out "$T/none" --model $clip $small --set model.text_encoder=t5
stderr_has "model.text_encoder is t5, but '$clip/text_encoder' is of CLIP"
runs "T5's model for CLIP's captions" 2 "$cache" build "$T/prep" --out "$T/none" --model "$T/model" $small
stderr_has "ids are of CLIP, but the model's text encoder is T5: run weft-prep tokenize"
check "nothing was written" test ! -e "$T/none"
cp -r $clip "$T/fp32" # the names of transformers 4, in bf16
rm -r "$T/fp32/text_encoder"
cp -r tests/golden/clip_pipeline/text_encoder_4 "$T/fp32/text_encoder"
runs "another CLIP" 0 "$cache" build "$T/prep" --out "$T/clip" --model "$T/fp32" $small
stdout_has "4 computed, 3 reused"
runs "and the first one again" 0 "$cache" build "$T/prep" --out "$T/clip" --model $clip $small
stdout_has "0 computed, 7 reused"
check "the empty prompt has one key a text encoder" test \
    "$("$cache" show "$T/clip" | grep -c '"empty": "[0-9a-f]*"')" = 1

# ---- beside T5 ----
cp -r $clip "$T/t5" # the same VAE and transformer, with T5's encoder
rm -r "$T/t5/text_encoder" "$T/t5/tokenizer"
cp -r "$T/model/text_encoder" "$T/model/tokenizer" "$T/t5"
check "tokenize for T5" "$prep" tokenize "$T/prep" --tokenizer "$T/t5/tokenizer"
runs "a cache of T5's" 0 "$cache" build "$T/prep" --out "$T/cache5" --model "$T/t5" $small
runs "CLIP's model for T5's captions" 2 "$cache" build "$T/prep" --out "$T/none" --model $clip $small
stderr_has "ids are of T5, but the model's text encoder is CLIP: run weft-prep tokenize"
runs "merge of both kinds" 2 "$cache" merge "$T/clip" "$T/cache5" --out "$T/merged"
stderr_has "was made with another text encoder"
cp -r "$T/clip" "$T/both"
runs "a cache of the one, built for the other" 0 "$cache" build "$T/prep" --out "$T/both" --model "$T/t5" $small
stdout_has "4 computed, 3 reused"
same_contents "has nothing of the first left" "$T/both" "$T/cache5"

# ---- training and sampling ----
set_="--preset demo --set training.mixed_precision=no --quiet"
runs "plan" 0 "$train" plan --cache "$T/clip" --model $clip --preset demo --set training.mixed_precision=no
stdout_has "text 77 x 48"
runs "run with caption dropout" 0 "$train" run --cache "$T/clip" --model $clip --out "$T/run" $set_ \
    --set training.caption_dropout=0.5 --set training.num_epochs=2
runs "T5's cache for this transformer" 2 "$train" run --cache "$T/cache5" --model $clip --out "$T/no" $set_
stderr_has "holds embeddings of T5, 226 tokens of 16 values, but the transformer reads 77 of 48"
runs "CLIP's cache with T5's model" 2 "$train" run --cache "$T/clip" --model "$T/t5" --out "$T/no" $set_
stderr_has "cache '$T/clip' holds embeddings of CLIP, but '$T/t5/text_encoder' is of T5"
runs "a recipe that wants T5" 2 "$train" run --cache "$T/clip" --model $clip --out "$T/no" $set_ \
    --set model.text_encoder=t5
stderr_has "model.text_encoder is t5, but '$T/clip' is of CLIP"
runs "caches of both kinds" 2 "$train" run --cache "$T/clip" --cache "$T/cache5" --model $clip --out "$T/no" $set_
stderr_has "cache '$T/clip' holds embeddings of CLIP, but '$T/cache5' is of T5"
size="--preset demo --set sampling.width=32 --set sampling.height=48 --set sampling.num_frames=9 --quiet"
size="$size --set sampling.num_inference_steps=2"
runs "sample --dry-run" 0 "$infer" sample --model "$T/run/final" --prompt "A red dress." --out "$T/s" $size --dry-run
stdout_has "text encoder 0.1 MiB"
runs "sample" 0 "$infer" sample --model "$T/run/final" --prompt "$long" --out "$T/s" $size
stderr_has "tokens do not fit in 77 and have no effect: '"
check "a video" sh -c 'ls "$0"/*.mp4' "$T/s"
runs "sample with T5 in front of it" 1 "$infer" sample --model "$T/t5" --prompt x --out "$T/s2" $size --dry-run
stderr_has "expects text vectors of 48 values, but '$T/t5/text_encoder' (T5) gives 16"
runs "sample with a recipe that wants T5" 2 "$infer" sample --model $clip --prompt x --out "$T/s2" $size --dry-run \
    --set model.text_encoder=t5
stderr_has "model.text_encoder is t5, but '$clip/text_encoder' is of CLIP"
cp -r tests/golden/pipeline/model "$T/wide" # a transformer that wants T5's 32 values
rm -r "$T/wide/text_encoder" "$T/wide/tokenizer"
cp -r $clip/text_encoder $clip/tokenizer "$T/wide"
runs "sample with CLIP in front of a transformer of T5" 1 "$infer" sample --model "$T/wide" --prompt x --out "$T/s2" \
    $size --dry-run
stderr_has "expects text vectors of 32 values, but '$T/wide/text_encoder' (CLIP) gives 48"
sed 's/"max_text_seq_length": 77/"max_text_seq_length": 226/' $clip/transformer/config.json >"$T/config"
cp -r $clip "$T/longer"
cp "$T/config" "$T/longer/transformer/config.json"
runs "sample with a transformer that wants more tokens" 2 "$infer" sample --model "$T/longer" --prompt x \
    --out "$T/s2" $size --dry-run
stderr_has "texts have 226 tokens, but '$T/longer/text_encoder' has positions for 77"
check "nothing was sampled" test ! -e "$T/s2"
finish
