#!/bin/sh
# Folders with links that lead out or in a circle, pipes, names that are not printable UTF-8: each
# is a rejected line, nothing hangs, the run goes on.
. tests/cli/lib.sh
prep="$B/weft-prep"
fast="--preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=48 \
    --set clip.height=80 --set clip.min_side=16 --set clip.max_reject_ratio=1"
mkdir -p "$T/src/in/deeper"
"$B/tests/tools/make_clip" "$T/src/good.mp4" 48 80 30 190 || fail "make a clip"
echo "A dress." >"$T/src/good.txt"
ln -s ../.. "$T/src/in/deeper/round"
ln -s nowhere.mp4 "$T/src/dangling.mp4"
echo "a private line" >"$T/private"
ln -s ../private "$T/src/leak.txt"
cp "$T/src/good.mp4" "$T/src/leak.mp4"
mkfifo "$T/src/pipe.mp4" "$T/src/pipe_caption.txt"
cp "$T/src/good.mp4" "$T/src/pipe_caption.mp4"
nl=$(printf 'two\nlines.mp4')
cp "$T/src/good.mp4" "$T/src/$nl"
cp "$T/src/good.mp4" "$T/src/$(printf 'b\377d.mp4')"
ln -s /dev/zero "$T/src/zero.mp4"
runs "a folder of traps" 3 timeout 600 "$prep" ingest "$T/src" --out "$T/out" $fast --jobs 1
stdout_has "9 sources: 1 accepted, 8 rejected"
check "what a link leads to is in no output" sh -c '! grep -r "a private line" "$1"' sh "$T/out"
stderr_has "clip 'leak' is rejected: link_outside: leak.txt is a link to"
stderr_has "clip 'in_deeper_round' is rejected: link_loop"
stderr_has "clip 'dangling' is rejected: missing"
stderr_has "clip 'pipe' is rejected: not_a_video: 'pipe.mp4' is not a regular file"
stderr_has "clip 'zero' is rejected: link_outside: 'zero.mp4' leads through a link to '/dev/zero'"
stderr_has "clip 'pipe_caption' is rejected: bad_caption: pipe_caption.txt is not a regular file"
stderr_has "clip 'two%0Alines' is rejected: bad_name"
stderr_has "clip 'b%FFd' is rejected: bad_name"
mkdir "$T/trees" "$T/trees/labels"
ln -s ../src "$T/trees/videos"
mkfifo "$T/trees/labels/good.txt"
runs "a tree outside of the folder" 2 timeout 600 "$prep" ingest "$T/trees" --out "$T/trees.out" $fast --jobs 1
stderr_has "videos/ is a link to"
stderr_has "--follow-links follows such links"
runs "two trees of traps" 3 timeout 600 "$prep" ingest "$T/trees" --out "$T/trees.out" $fast --jobs 1 --follow-links
stderr_has "not_a_video: 'videos/zero.mp4' is not a regular file"
stderr_has "link_loop"
stderr_has "labels/good.txt is not a regular file"

# ---- the worker processes are confined: no file but the source can be opened ----
# (tests/unit/base/test_confine.c tries the guard itself)
mkdir "$T/confined"
for i in 1 2 3 4; do
    "$B/tests/tools/make_clip" "$T/confined/c$i.mp4" 480 720 30 190 "$i"
    echo "A dress." >"$T/confined/c$i.txt"
done
confined=0
watch() { # PID: counts workers whose status shows that they gave up rights
    while kill -0 "$1" 2>/dev/null; do
        for worker in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
            grep -q "^NoNewPrivs:.*1" "/proc/$worker/status" 2>/dev/null && confined=$((confined + 1))
        done
    done
}
"$prep" ingest "$T/confined" --out "$T/confined.out" $fast --jobs 1 >"$T/stdout" 2>"$T/stderr" &
watch $!
if grep -q "this kernel has no Landlock" "$T/stderr"; then
    skip "ingest confines its workers" "this kernel has no Landlock"
    check "that is said once" test "$(grep -c Landlock "$T/stderr")" = 1
else
    check "ingest confines its workers" test "$confined" -gt 0
    check "and they do their work" grep -q "4 sources: 4 accepted" "$T/stdout"
fi

# ---- a pipe in place of a file of the prepared dataset: an error (or the file is made anew), never a hang ----
mkdir "$T/plain"
cp "$T/src/good.mp4" "$T/src/good.txt" "$T/plain"
runs "a plain folder" 0 "$prep" ingest "$T/plain" --out "$T/piped" $fast --jobs 1
for name in dataset.json manifest.jsonl tokens.jsonl journal.jsonl .sources report.json; do
    [ -e "$T/piped/$name" ] && mv "$T/piped/$name" "$T/kept"
    mkfifo "$T/piped/$name"
    hung=
    for command in report tokenize ingest; do
        case $command in
        report) set -- report "$T/piped" ;;
        tokenize) set -- tokenize "$T/piped" --tokenizer tests/golden/pipeline/model/tokenizer ;;
        ingest) set -- ingest "$T/plain" --out "$T/piped" $fast --jobs 1 ;;
        esac
        status=0
        timeout 600 "$prep" "$@" >"$T/stdout" 2>"$T/stderr" </dev/null || status=$?
        [ "$status" = 124 ] && hung="$hung $command"
    done
    if [ -z "$hung" ]; then
        pass "a pipe as $name hangs nothing"
    else
        fail "a pipe as $name hangs nothing" "hung:$hung"
    fi
    [ -p "$T/piped/$name" ] && rm "$T/piped/$name"
    [ -e "$T/kept" ] && mv "$T/kept" "$T/piped/$name"
done

# ---- what may not be read; root may read everything, so another user tries ----
mkdir -p "$T/mine/closed"
cp "$T/src/good.mp4" "$T/mine/closed"
cp "$T/src/good.mp4" "$T/src/good.txt" "$T/mine"
cp "$T/src/good.mp4" "$T/mine/secret.mp4"
cp "$prep" "$T/weft-prep"
chmod 000 "$T/mine/closed" "$T/mine/secret.mp4"
as=
[ "$(id -u)" = 0 ] && as="setpriv --reuid=65534 --regid=65534 --clear-groups" && chown -R 65534:65534 "$T"
if $as "$T/weft-prep" --version >/dev/null 2>&1; then
    runs "what may not be read" 3 $as "$T/weft-prep" ingest "$T/mine" --out "$T/mine.out" $fast --jobs 1
    stdout_has "3 sources: 1 accepted, 2 rejected"
    stderr_has "clip 'closed' is rejected: unreadable: the folder 'closed' may not be read"
    stderr_has "clip 'secret' is rejected:"
else
    skip "what may not be read" "no other user can be taken here"
fi
chmod -R u+rwX "$T/mine"
finish
