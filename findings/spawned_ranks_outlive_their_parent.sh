#!/bin/sh
# Guess:  torch.multiprocessing.spawn(..., join=True) owns its ranks: SIGTERM to the process that called it, as a
#         scheduler or pkill sends, ends them too.
# Seen:   it ends the parent alone.  The ranks are ordinary children without a parent-death signal, and go on
#         training and saving: a second run begun in the same folder shares its checkpoints with the first.  daemon=True
#         does not change it (daemonic children are ended at a normal exit, which SIGTERM is not).
# Seen with torch 2.15.0 (Python 3.11, Linux).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy
cat >"$dir/train.py" <<'PY'
import os
import sys
import time

import torch.multiprocessing as mp


def rank(_, folder):
    open(f"{folder}/pid", "w").write(str(os.getpid()))
    for step in range(600):  # a minute, then it ends by itself
        open(f"{folder}/state.part", "w").write(str(step))
        os.replace(f"{folder}/state.part", f"{folder}/state")
        time.sleep(0.1)


if __name__ == "__main__":
    mp.spawn(rank, args=(sys.argv[1],), nprocs=1, join=True, daemon=sys.argv[2] == "daemon")
PY
"$dir/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
for kind in plain daemon; do
    mkdir "$dir/$kind"
    "$dir/venv/bin/python" "$dir/train.py" "$dir/$kind" $kind &
    parent=$!
    while [ ! -s "$dir/$kind/state" ] && kill -0 $parent 2>/dev/null; do sleep 0.2; done
    kill -TERM $parent
    wait $parent 2>/dev/null || true
    first=$(cat "$dir/$kind/state")
    sleep 2
    last=$(cat "$dir/$kind/state")
    kill "$(cat "$dir/$kind/pid")" 2>/dev/null || true
    echo "$kind: the parent ended at step $first of its rank; two seconds later the rank is at step $last"
    [ "$last" -gt "$((first + 5))" ] || { echo "this has changed"; exit 1; }
done
echo "still so"
