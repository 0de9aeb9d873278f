# The demo's clip generator: complete, and the same bytes each run.
. tests/cli/lib.sh
D="$B/tests/demo/draw_clips"

runs "no folder is wrong usage" 2 "$D"
runs "a number that is none is wrong usage" 2 "$D" "$T/x" 3x
runs "one clip" 0 "$D" "$T/a" 1
runs "one clip again" 0 "$D" "$T/b" 1
same "two runs give the same bytes" "$T/a" "$T/b"
for f in captions_app.json caption_motion_template.json categories.json train_frame_num.txt val_frame_num.txt \
    test_frame_num.txt \
    action_label/A1r+dR3xQ0S.txt videos/A1r+dR3xQ0S.mp4; do
    check "$f is there" test -e "$T/a/$f"
done
finish
