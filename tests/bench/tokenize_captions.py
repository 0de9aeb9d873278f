"""Tokenises a manifest's captions in few lines.    python3 tokenize.py spiece.model PREPARED"""
import json
import sys

import sentencepiece

spm = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
with open(sys.argv[2] + "/manifest.jsonl") as lines, open(sys.argv[2] + "/tokens-script.jsonl", "w") as out:
    texts = dict.fromkeys(text for line in map(json.loads, lines) if line["decision"] == "accept" for text in line["captions"])
    for text in texts:
        ids = spm.encode(text) + [1]
        out.write(json.dumps({"text": text, "ids": ids[:225] + [1] if len(ids) > 226 else ids}) + "\n")
