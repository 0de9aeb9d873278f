#!/bin/sh
# weft-cache from the shell: build and again, kill -9 and again, other weights, damage, a full disk,
# what is refused and how.
. tests/cli/lib.sh
. tests/cli/cache_lib.sh
cache_inputs 6
check "other encoders" "$B/tests/tools/make_encoders" "$T/other" 1
check "a prepared dataset" prepare "$T/prep"

# ---- build, and again ----
runs "dry run" 0 build "$T/one" --dry-run
stdout_has "clips: 6, 6 to encode"
stdout_has "texts: 7, 7 to encode"
stdout_has "memory, VAE:"
stdout_has "memory, in all:"
stdout_has "time: "
check "a dry run writes nothing" test ! -e "$T/one"
runs "build" 0 env OMP_NUM_THREADS=1 "$cache" build "$T/prep" --out "$T/one" --model "$T/model" $small
stdout_has "6 clips, 7 texts: 13 computed, 0 reused, 0 rejected"
cp "$T/one/data.mdb" "$T/before.mdb"
runs "build again" 0 build "$T/one"
stdout_has "6 clips, 7 texts: 0 computed, 13 reused, 0 rejected"
sleep 2.2 # files that were just written are not remembered
"$cache" build "$T/prep" --out "$T/one" --model "$T/model" ${small% --quiet} >"$T/loud" 2>&1
check "digests of unchanged files are kept" test -s "$T/one/.seen"
check "and those of weights, beside the cache" test -s "$T/.weights"
rm "$T/.weights"
"$cache" build "$T/prep" --out "$T/one" --model "$T/model" ${small% --quiet} >"$T/loud" 2>&1
check "without them it reads the weights again" grep -q "for their digest" "$T/loud"
"$cache" build "$T/prep" --out "$T/one" --model "$T/model" ${small% --quiet} >"$T/loud" 2>&1
check "with them it does not" sh -c '! grep -q "for their digest" "$0"' "$T/loud"
cp -p "$T/prep/clips/c1.mkv" "$T/kept-clip"
cp -a "$T/one" "$T/odd"
printf X | dd of="$T/prep/clips/c1.mkv" bs=1 seek=2000 conv=notrunc 2>/dev/null
touch -r "$T/kept-clip" "$T/prep/clips/c1.mkv"
"$cache" build "$T/prep" --out "$T/odd" --model "$T/model" $small >"$T/stdout" 2>"$T/stderr"
check "a clip with other bytes under its old time is read again" sh -c '! grep -q "13 reused, 0 rejected" "$0"' "$T/stdout"
cp -p "$T/kept-clip" "$T/prep/clips/c1.mkv"
touch "$T/prep/clips/c1.mkv"
runs "a clip that was touched is read again" 0 build "$T/one"
stdout_has "0 computed, 13 reused, 0 rejected"
"$cache" build "$T/prep" --out "$T/loudly" --model "$T/model" ${small% --quiet} >"$T/loud2" 2>&1
check "it says what it needed and what was predicted" grep -q "needed: .* MB of memory (.* predicted)" "$T/loud2"
# a clip of full size: the pixels of a chunk as floats (37 MB) are more than malloc keeps for itself
mkdir "$T/wide"
"$B/tests/tools/make_clip" "$T/wide/w.mp4" 480 720 30 40
echo "A dress." >"$T/wide/w.txt"
wide="${small% --quiet} --set clip.width=480 --set clip.height=720"
"$B/weft-prep" ingest "$T/wide" --out "$T/wide-prep" $wide >/dev/null 2>&1
"$B/weft-prep" tokenize "$T/wide-prep" --tokenizer "$T/model/tokenizer" $wide >/dev/null 2>&1
OMP_NUM_THREADS=1 "$cache" build "$T/wide-prep" --out "$T/wide-cache" --model "$T/model" $wide >"$T/wide-said" 2>&1
# 400 of one frame of 16x16: much of the memory is what waits for a commit, more or less of it by the machine's speed
tiny="${small% --quiet} --set clip.width=16 --set clip.height=16 --set clip.model_frames=1 --set clip.num_frames=1"
mkdir "$T/tiny"
"$B/tests/tools/make_clip" "$T/tiny/t.mp4" 16 16 30 40 1
echo "A dress." >"$T/tiny/t.txt"
"$B/weft-prep" ingest "$T/tiny" --out "$T/tiny-one" $tiny >/dev/null 2>&1
"$B/tests/tools/many_clips" "$T/tiny-one" "$T/tiny-prep" 400
"$B/weft-prep" tokenize "$T/tiny-prep" --tokenizer "$T/model/tokenizer" $tiny >/dev/null 2>&1
OMP_NUM_THREADS=1 "$cache" build "$T/tiny-prep" --out "$T/tiny-cache" --model "$T/model" $tiny >"$T/tiny-said" 2>&1
as_predicted() { # NAME LEAST PERCENT: MB
    needed=$(sed -n 's/.*needed: \([0-9.]*\) MB of memory (\([0-9.]*\) predicted).*/\1 \2/p' "$T/$1-said")
    check_planned "$1 clips needed what was predicted, within $3 %: $needed MB" sh -c \
        'echo "$0 $1 $2" | awk "{ exit !(\$2 > \$3 && \$1 * 100 > (100 - \$4) * \$2 && \$1 * 100 < (100 + \$4) * \$2) }"' \
        "$needed" "$2" "$3"
}
as_predicted wide 200 5
if [ "$(stat -f -c %T "$T")" = tmpfs ]; then
    skip "tiny clips needed what was predicted" "the cache lies in memory, which counts"
else
    as_predicted tiny 9 20
fi
check "it says how busy each stage was" grep -q "read [0-9]* %, encode [0-9]* %, pack [0-9]* %, write [0-9]* %" \
    "$T/loud2"
check "a run that finds everything done prints few lines" test "$(grep -vc "  [a-z]*\.[a-z_]* = " "$T/loud")" -le 9
check "the second run wrote nothing" cmp "$T/before.mdb" "$T/one/data.mdb"
runs "dry run of what is there" 0 build "$T/one" --dry-run
stdout_has "clips: 6, 0 to encode"
runs "two threads" 0 env OMP_NUM_THREADS=2 "$cache" build "$T/prep" --out "$T/two" --model "$T/model" $small
same_contents "one thread and two: the same bits" "$T/one" "$T/two"
runs "ls" 0 "$cache" ls "$T/one"
stdout_has "c3	train	3x8x4x4	1	Clip number 3, a dress."
stdout_has "6 clips, 6 latents, 7 texts"
runs "ls as JSON" 0 "$cache" ls --json "$T/one"
check "ls as JSON: one object a clip" test "$(grep -c '^{.*"id":"c[1-6]".*}$' "$T/stdout")" = 6
runs "ls as CSV" 0 "$cache" ls --csv "$T/one"
stdout_has '"c3",train,"",9,64,32,3,8,4,4,1,"Clip number 3, a dress."'
check "ls as CSV: a header and a line a clip" test "$(wc -l <"$T/stdout")" = 7
runs "ls in two forms" 2 "$cache" ls --json --csv "$T/one"
runs "show" 0 "$cache" show "$T/one" c2
stdout_has '"record": "F32 [3, 8, 4, 8]"'
stdout_has '"record": "F32 [32, 16]"'
runs "show what is not there" 1 "$cache" show "$T/one" nobody
stderr_has "no clip 'nobody'"
runs "verify" 0 "$cache" verify "$T/one"
stdout_has "20 records, 6 clips, 0 damaged"

# ---- one data.mdb under two folders: two locks for it ----
mkdir "$T/linked"
ln -s "$T/one/data.mdb" "$T/linked/data.mdb"
runs "a linked data.mdb is read" 0 "$cache" verify "$T/linked"
runs "and not written" 2 build "$T/linked"
stderr_has "linked/data.mdb' is a link"
ln -s "$T/one" "$T/linked-folder"
runs "a linked folder is" 0 build "$T/linked-folder"

# ---- kill -9 at several moments, then again ----
BUILD="$cache build $T/prep --out $T/killed --model $T/model $small"
counts "undisturbed" 0 $BUILD
kills=0
for k in 1 2 3 4; do
    rm -rf "$T/killed"
    killed_at_call "$(seeded $k "$calls")" $BUILD && kills=$((kills + 1))
    build "$T/killed" >/dev/null 2>&1
    same_contents "killed before call $lib_call and run again" "$T/one" "$T/killed"
done
was_killed 4
rm -rf "$T/killed"
killed_often 4 $((calls / 3)) $BUILD
build "$T/killed" >/dev/null 2>&1
same_contents "killed four times in a row and run again" "$T/one" "$T/killed"

# ---- asked to stop ----
rm -rf "$T/killed"
stops=0
for part in 8 6 4 3; do
    at_call $((calls / part)) 'kill -TERM $PID' $BUILD
    [ $status = 143 ] && grep -q "the same command goes on from there" "$T/stderr" && stops=$((stops + 1)) && continue
    [ $status = 0 ] || [ $status = 125 ] || fail "SIGTERM: exit $status" "$(tail -3 "$T/stderr")"
done
if can_trace; then check "SIGTERM stopped $stops builds with exit status 143" test $stops -gt 0
else skip "SIGTERM" "$no_trace"; fi
build "$T/killed" >/dev/null 2>&1
same_contents "stopped and run again" "$T/one" "$T/killed"

# ---- other weights: never used ----
cp -r "$T/one" "$T/weights"
runs "dry run with other weights" 0 "$cache" build "$T/prep" --out "$T/weights" --model "$T/other" $small --dry-run
stdout_has "clips: 6, 6 to encode"
runs "other weights" 0 "$cache" build "$T/prep" --out "$T/weights" --model "$T/other" $small
stdout_has "13 computed, 0 reused"
runs "other weights, a cache of their own" 0 "$cache" build "$T/prep" --out "$T/fresh" --model "$T/other" $small
same_contents "nothing of the first weights is left in the entries" "$T/weights" "$T/fresh"
"$cache" show "$T/weights" c1 | grep vae_sha256 >"$T/a"
"$cache" show "$T/one" c1 | grep vae_sha256 >"$T/b"
if cmp -s "$T/a" "$T/b"; then fail "show tells the weights apart"; else pass "show tells the weights apart"; fi
OTHER="$cache build $T/prep --out $T/halfway --model $T/other $small"
if can_trace; then
    cp -r "$T/one" "$T/halfway"
    counts "other weights, undisturbed" 0 $OTHER
    rm -rf "$T/halfway"
    cp -r "$T/one" "$T/halfway"
    check "other weights, killed at half of $calls calls" killed_at_call $((calls / 2)) $OTHER
    runs "the entries of the first weights went first" 1 "$cache" verify "$T/halfway"
    stdout_has "unfinished: 0 of 6 clips"
    runs "other weights, gone on with" 0 $OTHER
    same_contents "gone on with: the same entries" "$T/halfway" "$T/fresh"
else
    skip "other weights, killed on the way" "$no_trace"
fi
runs "the first weights again" 0 build "$T/weights"
stdout_has "0 computed, 13 reused"
same_contents "their entries are back" "$T/weights" "$T/one"

# ---- a damaged record ----
damage() { # FILE PLACE: another byte there
    byte=$(od -An -tu1 -j "$2" -N1 "$1" | tr -d ' ')
    printf "\\$(printf %03o $(((byte + 1) % 256)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
at=$(grep -abo WEFT "$T/two/data.mdb" | cut -d: -f1 | awk '$1 % 4096 == 16 {print; exit}')
damage "$T/two/data.mdb" $((at + 148))
runs "verify finds a flipped byte" 1 "$cache" verify "$T/two"
stdout_has "damaged: record: text"
stdout_has "20 records, 6 clips, 1 damaged"
runs "build mends it" 0 build "$T/two"
stdout_has "1 computed, 12 reused"
stderr_has "it is computed again"
runs "verify after that" 0 "$cache" verify "$T/two"
same_contents "mended: the same bits" "$T/one" "$T/two"
head -c 30000 "$T/one/data.mdb" >"$T/two/data.mdb"
runs "a torn cache" 1 build "$T/two"
stderr_has "data.mdb is cut short: it has 30000 bytes and its pages need"
echo "no database" >"$T/two/data.mdb"
runs "a foreign file" 1 "$cache" verify "$T/two"
stderr_has "not a cache"

cp "$T/one/data.mdb" "$T/two/data.mdb"
for p in 2 3 4 5 6 7 8 9 10; do
    printf 'LMDB trusts its pages' | dd of="$T/two/data.mdb" bs=1 seek=$((4096 * p + 8)) conv=notrunc 2>/dev/null
done
runs "verify of damaged pages" 1 "$cache" verify "$T/two"
stderr_has "data.mdb is damaged (page"
runs "build into damaged pages" 1 build "$T/two"
stderr_has "move it away and build it again"

# ---- a clip whose file is known, with something else to do ----
cp -a "$T/one" "$T/known"
check "its digests are known" test -s "$T/known/.seen"
for at in $(grep -abo WEFT "$T/known/data.mdb" | cut -d: -f1 | awk '$1 % 4096 == 16'); do
    if [ "$(od -An -tu1 -j $((at + 8)) -N1 "$T/known/data.mdb" | tr -d ' ')" = 1 ]; then break; fi # its kind: latents
done
damage "$T/known/data.mdb" $((at + 148))
runs "verify finds damaged latents" 1 "$cache" verify "$T/known"
stdout_has "damaged: record: latents"
runs "build mends them" 0 build "$T/known"
stdout_has "1 computed, 12 reused"
same_contents "mended latents: the same bits" "$T/one" "$T/known"
cp -a "$T/prep" "$T/kept-prep"
old=$(sha256sum <"$T/prep/manifest.jsonl" | cut -c1-64)
sed '/"id":"c3"/s/"category":[^,]*,/"category":"coat",/' "$T/kept-prep/manifest.jsonl" >"$T/prep/manifest.jsonl"
new=$(sha256sum <"$T/prep/manifest.jsonl" | cut -c1-64)
sed -i "s/$old/$new/" "$T/prep/dataset.json"
runs "a clip of another category" 0 build "$T/known"
stdout_has "0 computed, 13 reused"
"$cache" show "$T/known" c3 >"$T/a"
check "its entry has it" grep -q '"category": "coat"' "$T/a"
cp -p "$T/kept-prep/manifest.jsonl" "$T/kept-prep/dataset.json" "$T/prep"
runs "as it was" 0 build "$T/known"
same_contents "as it was: the same entries" "$T/one" "$T/known"

# ---- names that a flipped bit changed ----
put_byte() { # FILE TEXT PLACE OCTAL: in each place of the file that holds TEXT
    for at in $(grep -abo "$2" "$1" | cut -d: -f1); do
        printf "\\$4" | dd of="$1" bs=1 seek=$((at + $3)) conv=notrunc 2>/dev/null
    done
}
cp -a "$T/one" "$T/named"
put_byte "$T/named/data.mdb" 'c6{"attributes"' 1 266 # no text any more
runs "verify finds a damaged name" 1 "$cache" verify "$T/named"
stdout_has "20 records, 6 clips, 1 damaged"
runs "build mends it" 0 build "$T/named"
stdout_has "0 computed, 13 reused"
same_contents "mended: the same entries" "$T/one" "$T/named"
put_byte "$T/named/data.mdb" 'encoding{"dtype"' 1 155
runs "verify finds a meta entry under another name" 1 "$cache" verify "$T/named"
stdout_has "'emcoding': its checksum is wrong"
runs "build drops it" 0 build "$T/named"
stderr_has "'emcoding': its checksum is wrong; it is dropped"
runs "verify after that" 0 "$cache" verify "$T/named"
same_contents "dropped: the same entries" "$T/one" "$T/named"
put_byte "$T/named/data.mdb" 'format{"records"' 17 067
runs "another form" 1 build "$T/named"
stderr_has "'format': its checksum is wrong"
stderr_has "move it away and build it again"

# ---- colours of latents are those of this dataset's clips ----
sed 's/"split":"train"/"split":"val"/' "$T/kept-prep/manifest.jsonl" >"$T/prep/manifest.jsonl"
new=$(sha256sum <"$T/prep/manifest.jsonl" | cut -c1-64)
sed -i "s/$old/$new/" "$T/prep/dataset.json"
cp -a "$T/one" "$T/uncoloured"
runs "no clip to train on" 0 build "$T/uncoloured"
cp -p "$T/kept-prep/manifest.jsonl" "$T/kept-prep/dataset.json" "$T/prep"
for which in one uncoloured; do "$cache" export "$T/$which" --out "$T/$which-export" -q >/dev/null; done
check "colours are fitted to clips of split train" grep -q '"colour"' "$T/one-export/export.json"
check "and go with them" test "$(grep -c '"colour"' "$T/uncoloured-export/export.json")" = 0

# ---- damaged clips ----
cp -r "$T/prep" "$T/prep2"
head -c 1000 "$T/prep/clips/c2.mkv" >"$T/prep2/clips/c2.mkv"
cp "$T/prep/clips/c1.mkv" "$T/prep2/clips/c5.mkv"
cp -r "$T/one" "$T/partly"
runs "two damaged clips" 3 "$cache" build "$T/prep2" --out "$T/partly" --model "$T/model" $small
stdout_has "4 clips, 7 texts: 0 computed, 11 reused, 2 rejected"
stderr_has "clip 'c2' is left out"
stderr_has "clip 'c5' is left out"
stderr_has "its pixels are not those that manifest.jsonl names"
runs "their entries are gone" 1 "$cache" show "$T/partly" c5
runs "more than the recipe allows" 1 "$cache" build "$T/prep2" --out "$T/partly" --model "$T/model" $small \
    --set clip.max_reject_ratio=0.1
stderr_has "2 of 6 clips could not be cached"
runs "mended clips" 0 build "$T/partly"
stdout_has "6 clips, 7 texts: 0 computed, 13 reused, 0 rejected"
same_contents "mended clips: the same entries" "$T/one" "$T/partly"

# ---- a full disk ----
(
    trap '' XFSZ
    ulimit -f 160 # blocks of 512 bytes
    build "$T/full" >"$T/stdout" 2>"$T/stderr"
)
status=$?
lib_name="no room"
if [ "$status" = 1 ]; then pass "no room: exit 1"; else fail "no room: exit $status"; fi
stderr_has "what was stored before is intact"
runs "what was stored" 1 "$cache" verify "$T/full"
stdout_has "unfinished: "
stdout_has "run weft-cache build again"
stdout_has ", 0 damaged, unfinished"
build "$T/full" >"$T/stdout" 2>&1
same_contents "with room again: the same cache" "$T/one" "$T/full"
mkdir "$T/disk"
if mount -t tmpfs -o size=96k weft-test "$T/disk" 2>/dev/null; then
    runs "a full tmpfs" 1 build "$T/disk/c"
    stderr_has "what was stored before is intact"
    mount -o remount,size=8m "$T/disk"
    build "$T/disk/c" >/dev/null 2>&1
    same_contents "after making room: the same cache" "$T/one" "$T/disk/c"
    umount "$T/disk"
else
    skip "a full tmpfs" "mounting is not allowed here"
fi

# ---- stored types ----
runs "bf16" 0 build "$T/types" --set cache.dtype=bf16
runs "bf16 is in the records" 0 "$cache" show "$T/types" c1
stdout_has '"record": "BF16 [3, 8, 4, 8]"'
runs "one fp16 draw" 0 build "$T/types" --set cache.dtype=fp16 --set cache.store=sample
runs "a sample has half the channels" 0 "$cache" show "$T/types" c1
stdout_has '"record": "F16 [3, 8, 4, 4]"'
runs "another seed is another draw" 0 build "$T/types" --set cache.dtype=fp16 --set cache.store=sample --seed 5
stdout_has "6 computed, 7 reused"
runs "tiles are other latents" 0 build "$T/types" --set cache.vae_tiling=true
stdout_has "13 computed"
"$cache" show "$T/types" c1 | grep -m 1 xxh3 >"$T/a"
"$cache" show "$T/one" c1 | grep -m 1 xxh3 >"$T/b"
if [ -s "$T/a" ] && ! cmp -s "$T/a" "$T/b"; then
    pass "tiles are other latents: their values too"
else
    fail "tiles are other latents: their values too" "$(cat "$T/a")"
fi
runs "verify of all of them" 0 "$cache" verify "$T/types"
for value in dtype=bf16 store=sample vae_tiling=true; do
    runs "cache.$value" 0 build "$T/${value%=*}" --set "cache.$value"
    runs "cache.$value in the meta entries" 0 "$cache" show "$T/${value%=*}"
    case $value in
    vae*) stdout_has '"overlap": [' ;;
    *) stdout_has "\"${value%=*}\": \"${value#*=}\"" ;;
    esac
    stdout_has "\"${value%=*}\": "
    "$cache" show "$T/${value%=*}" c1 | grep -m 1 xxh3 >"$T/a"
    if [ -s "$T/a" ] && ! cmp -s "$T/a" "$T/b"; then
        pass "cache.$value matters"
    else
        fail "cache.$value matters" "$(cat "$T/a")"
    fi
done
"$cache" keys cache >"$T/keys"
check "cache has these three keys" test "$(grep -c '^ *cache\.' "$T/keys")" = 3

# ---- shards, and a dataset that shrank ----
for k in 0 1; do runs "shard $k" 0 build "$T/shards" --shard $k/2; done
stdout_has "3 clips, 4 texts"
"$cache" ls "$T/shards/shard-0-of-2" | sed '$d' | cut -f1 >"$T/a"
"$cache" ls "$T/shards/shard-1-of-2" | sed '$d' | cut -f1 >>"$T/a"
sort "$T/a" >"$T/b"
"$cache" ls "$T/one" | sed '$d' | cut -f1 >"$T/a"
check "two shards hold every clip once" cmp "$T/a" "$T/b"
runs "a batch script without srun encodes all clips" 0 env SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=4 "$cache" build \
    "$T/prep" --out "$T/batch" --model "$T/model" $small
stdout_has "6 clips, 7 texts: 13 computed, 0 reused, 0 rejected"
same_contents "a batch script without srun: the whole cache" "$T/one" "$T/batch"
runs "a rank of Open MPI encodes its part" 0 env SLURM_PROCID=0 SLURM_NTASKS=4 OMPI_COMM_WORLD_RANK=1 \
    OMPI_COMM_WORLD_SIZE=2 "$cache" build "$T/prep" --out "$T/ranks" --model "$T/model" $small
stdout_has "shard-1-of-2: 3 clips"
rm "$T/src/c6.mp4" "$T/src/c6.txt"
check "a smaller dataset" prepare "$T/prep3"
runs "its cache" 0 "$cache" build "$T/prep3" --out "$T/partly" --model "$T/model" $small
stdout_has "5 clips, 6 texts: 0 computed, 11 reused"
runs "the clip that went" 1 "$cache" show "$T/partly" c6

# ---- what is refused, and how ----
runs "no model" 2 "$cache" build "$T/prep" --out "$T/x" $small
stderr_has "no model: give --model FOLDER"
runs "no such model" 1 "$cache" build "$T/prep" --out "$T/x" --model "$T/nothing" $small
stderr_has "nothing' does not exist"
runs "another size" 2 build "$T/x" --set clip.width=64
stderr_has "'clip.width' is 64 in --set, but '$T/prep' was made with 32"
runs "size and frames are the dataset's" 0 "$cache" build "$T/prep" --out "$T/x" --model "$T/model" --dry-run
runs "another text length" 2 build "$T/x" --set model.text_length=48
stderr_has "run weft-prep tokenize with this recipe"
printf 'x' >>"$T/prep2/manifest.jsonl"
runs "a manifest that dataset.json does not know" 1 "$cache" build "$T/prep2" --out "$T/x" --model "$T/model" $small
stderr_has "is not the manifest that dataset.json was written for"
rm "$T/prep3/tokens.jsonl"
runs "no tokens" 1 "$cache" build "$T/prep3" --out "$T/x" --model "$T/model" $small
stderr_has "run weft-prep tokenize first"
runs "no dataset" 1 "$cache" build "$T/src" --out "$T/x" --model "$T/model" $small
stderr_has "not a finished prepared dataset"
cp -r "$T/model" "$T/four"
sed 's/"in_channels": 3/"in_channels": 4/; s/"out_channels": 3/"out_channels": 4/' "$T/model/vae/config.json" \
    >"$T/four/vae/config.json"
runs "a VAE of four pixel channels" 1 "$cache" build "$T/prep" --out "$T/x" --model "$T/four" $small
stderr_has "vae/config.json"
check "a VAE of four pixel channels: nothing is made" test ! -e "$T/x"
cp -r "$T/model" "$T/bad"
head -c 2000 "$T/model/vae/diffusion_pytorch_model.safetensors" >"$T/bad/vae/diffusion_pytorch_model.safetensors"
runs "cut weights" 1 "$cache" build "$T/prep" --out "$T/x" --model "$T/bad" $small
stderr_has "diffusion_pytorch_model.safetensors"
if command -v flock >/dev/null; then
    runs "a second writer" 1 flock "$T/one/.lock" "$cache" build "$T/prep" --out "$T/one" --model "$T/model" $small
    stderr_has "is being written by another process"
else
    skip "a second writer" "no flock program"
fi
runs "no cache" 1 "$cache" ls "$T/nothing"
stderr_has "holds no cache"
runs "unknown command" 2 "$cache" bild
stderr_has "build"
runs "help" 0 "$cache" build --help
stdout_has "--model"
finish
