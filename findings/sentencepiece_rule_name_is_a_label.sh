#!/bin/sh
# Guess:  a SentencePiece model's normalizer_spec.name chooses its normalisation: setting "nmt_nfkc" to
#         "identity" in the file switches it off.
# Seen:   the name is a label that is written at training and never read again: only precompiled_charsmap
#         normalises.  With the name changed all pieces stay the same; with the map emptied, under either
#         name, the full-width letters arrive as they are.  Who copies the name (for instance into a
#         tokenizer.json) copies nothing that acts.
# Seen with sentencepiece 0.2.3, protobuf 7.36.2 (Python 3.11, x86-64).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q sentencepiece==0.2.3 protobuf==7.36.2
"$dir/venv/bin/python" - <<'PY'
import io
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb

print("sentencepiece", sentencepiece.__version__)
words = "red blue green dress coat skirt silk wool cotton long short walks turns stands studio street".split()
lines = [f"a {a} {b} {c}" for a in words for b in words for c in words[:4]]
out = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, vocab_size=80,
                                         hard_vocab_limit=False, minloglevel=2)
text = "a \uff32\uff25\uff24 dress"  # full-width letters
pieces = {}
for name in ("nmt_nfkc", "identity"):
    for empty in (False, True):
        model = pb.ModelProto.FromString(out.getvalue())
        assert model.normalizer_spec.name == "nmt_nfkc"
        model.normalizer_spec.name = name
        if empty:
            model.normalizer_spec.precompiled_charsmap = b""
        tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        pieces[name, empty] = tokenizer.encode(text, out_type=str)
        print(f"name {name}, map {'empty' if empty else 'kept'}: {ascii(pieces[name, empty])}")
assert pieces["identity", False] == pieces["nmt_nfkc", False], "this has changed"
assert pieces["identity", True] == pieces["nmt_nfkc", True], "this has changed"
assert pieces["identity", True] != pieces["identity", False], "this has changed"
assert "\uff32" in "".join(pieces["identity", True]), "this has changed"
assert "R" in "".join(pieces["identity", False]), "this has changed"
print("still so")
PY
