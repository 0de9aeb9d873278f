#!/bin/sh
# Guess:  the memory that an LMDB write transaction takes for its pages is free again after its commit.
# Seen:   pages of small values stay with the environment until it is closed: 10,000 values of 3,000 bytes in one
#         transaction take 40 MB, the commit gives none of it back, and closing the environment all of it.  The next
#         transactions use the same pages again, so memory stays at the largest one's.  Values of several pages (here
#         200,000 bytes) are given back at the commit.  So a writer's memory is bounded by commits of a limited size,
#         and what was taken once cannot be had back without a new environment.
# Seen with lmdb 3.0.0 (LMDB 0.9.36) and, by hand, lmdb 1.4.0 on Debian 12's LMDB 0.9.24 (Python 3.11).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q lmdb==3.0.0
"$dir/venv/bin/python" - "$dir" <<'PY'
import os
import platform
import sys
import lmdb

print("python", platform.python_version(), "lmdb", lmdb.__version__, "LMDB", ".".join(map(str, lmdb.version())))


def memory():
    """MB of this process that are no mapped file."""
    with open("/proc/self/status") as status:
        return sum(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1000


def write(env, first, count, value):
    with env.begin(write=True) as txn:
        for i in range(first, first + count):
            txn.put(b"%08d" % i, value)
        return memory()


def case(size, count):
    env = lmdb.open(os.path.join(sys.argv[1], str(size)), map_size=1 << 30)
    start = memory()
    inside = write(env, 0, count, b"x" * size) - start
    after = memory() - start
    write(env, count, count, b"x" * size)
    second = memory() - start
    env.close()
    closed = memory() - start
    print(f"{count} values of {size} bytes: {inside:.1f} MB inside the transaction, {after:.1f} after its commit, "
          f"{second:.1f} after another, {closed:.1f} after closing")
    return inside, after, second, closed


inside, after, second, closed = case(3000, 10000)
assert inside > 30 and after > 0.95 * inside and second < 1.1 * inside and closed < 0.1 * inside, "this has changed"
inside, after, _, _ = case(200000, 150)
assert inside > 25 and after < 0.1 * inside, "this has changed"
print("still so")
PY
