"""Reads a cache with py-lmdb alone, as schemas/cache.md says, and checks every checksum.

    python3 tests/golden/read_cache.py CACHE     (lmdb 3.0.0 with LMDB 0.9.36, numpy, xxhash 4.1.0)

Recorded: "6 clips and 20 records, all sound (LMDB 0.9.36)" of a small cache, opened for reading and for writing; meanwhile and afterwards `weft-cache verify` on Debian's LMDB 0.9.24 reads it as before.
"""
import json, struct, sys
import lmdb, numpy, xxhash

TYPES = {0: ("<f4", 4), 1: ("<f2", 2), 2: ("<u2", 2), 9: ("<i4", 4)}  # bf16 as its bits
env = lmdb.open(sys.argv[1], max_dbs=5, readonly=True)
clips = records = 0
with env.begin() as txn:
    for name in (b"meta", b"clips"):
        for key, value in txn.cursor(env.open_db(name, txn=txn, create=False)):
            text, digits = value.rsplit(b"\n", 1)
            assert b"%016x" % xxhash.xxh3_64_intdigest(name + b"\0" + key + b"\0" + text) == digits, key
            clips += name == b"clips" and bool(json.loads(text)["captions"])
    for name in (b"tokens", b"text", b"latents"):
        for key, value in txn.cursor(env.open_db(name, txn=txn, create=False)):
            magic, version, dtype, kind, rank, _, *dims, size, checksum = struct.unpack("<4sHHBBH5IQQ", value[:48])
            tensor = numpy.frombuffer(value, TYPES[dtype][0], offset=48).reshape(dims[:rank])
            assert magic == b"WEFT" and version == 2 and tensor.nbytes == size
            assert xxhash.xxh3_64_intdigest(value[48:], seed=xxhash.xxh3_64_intdigest(key + value[:40])) == checksum, key
            records += 1
print(f"{clips} clips and {records} records, all sound (LMDB {'.'.join(map(str, lmdb.version()))})")
