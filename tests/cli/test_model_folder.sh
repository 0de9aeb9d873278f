#!/bin/sh
# What --model may be: a folder, a Hugging Face cache entry, weights in another form; and what is refused by name.
. tests/cli/lib.sh
P=tests/golden/pipeline/model
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
plan() { "$B/weft-train" plan --preset demo --quiet --cache "$T/a" --model "$@"; }
model() { # a fresh copy
    rm -rf "$T/model"
    cp -r $P "$T/model"
}

model
runs "a folder" 0 plan "$T/model"

# The same tokeniser in the form that transformers 5 saves is no other one; with another vocabulary it is.
small="--preset demo --quiet --set quality.mode=warn --set clip.width=32 --set clip.height=48 \
    --set clip.min_side=16 --set clip.num_frames=8"
small="$small --set training.batch_size=1 --set clip.model_frames=9 --set model.text_length=226"
mkdir "$T/src"
check "a clip" "$B/tests/tools/make_clip" "$T/src/c.mp4" 32 48 30 40 1
echo "A fleece." >"$T/src/c.txt"
runs "ingest" 0 "$B/weft-prep" ingest "$T/src" --out "$T/prep" $small
runs "tokenize" 0 "$B/weft-prep" tokenize "$T/prep" --tokenizer $P/tokenizer $small
build() { "$B/weft-cache" build "$T/prep" --model "$1" --out "$2" $small; }
runs "a cache made with spiece.model" 0 build $P "$T/real"
model
rm "$T/model/tokenizer/spiece.model"
cp tests/golden/tokenizer/tokenizer.json "$T/model/tokenizer/"
runs "a cache made with tokenizer.json" 0 build "$T/model" "$T/json"
runs "trained with tokenizer.json" 0 "$B/weft-train" plan $small --cache "$T/real" --model "$T/model"
sed 's/"e"/"\\u00fe"/' tests/golden/tokenizer/tokenizer.json >"$T/model/tokenizer/tokenizer.json" # no piece for e
runs "a cache with another tokeniser" 2 build "$T/model" "$T/other"
stderr_has "another tokeniser"
runs "trained with another tokeniser" 2 "$B/weft-train" plan $small --cache "$T/real" --model "$T/model"
stderr_has "another tokenizer"

# A Hugging Face cache entry, and the hub id that was downloaded there.
model
mkdir -p "$T/hub/models--o--n/snapshots" "$T/hub/models--o--n/refs"
mv "$T/model" "$T/hub/models--o--n/snapshots/abc"
printf abc >"$T/hub/models--o--n/refs/main"
runs "a cache entry" 0 plan "$T/hub/models--o--n"
HF_HUB_CACHE=$T/hub
export HF_HUB_CACHE
runs "a hub id" 0 plan o/n
runs "a hub id that was not downloaded" 1 plan o/other
stderr_has "hf download o/other --local-dir DIR"

# A path that is not UTF-8 cannot be recorded: said so.
latin1=$(printf '%s/mod\350le' "$T")
cp -r $P "$latin1"
runs "a path that is not UTF-8" 2 plan "$latin1"
stderr_has "the model's path is not UTF-8"

# A Git LFS pointer, only another variant, only pickles.
model
mv "$T/model/vae/diffusion_pytorch_model.safetensors" "$T/vae"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3387\n' \
    >"$T/model/vae/diffusion_pytorch_model.safetensors"
runs "a Git LFS pointer" 1 plan "$T/model"
stderr_has "is a Git LFS pointer"
rm "$T/model/vae/diffusion_pytorch_model.safetensors"
: >"$T/model/vae/diffusion_pytorch_model.bin"
runs "only a pickle" 1 plan "$T/model"
stderr_has "diffusion_pytorch_model.bin is a PyTorch pickle"
mv "$T/vae" "$T/model/vae/diffusion_pytorch_model.fp16.safetensors"
runs "only the fp16 variant" 0 plan "$T/model"
finish
