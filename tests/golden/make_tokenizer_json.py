"""Writes tests/golden/tokenizer/tokenizer.json, what transformers 5 saves of the tokeniser in tests/golden/pipeline/model/tokenizer
(no spiece.model), and prints tests/golden/tokenizer_json.h: words and separators from which the test draws 3,000 captions, and the
SHA-256 of the ids that SentencePiece's own library gives them, with that model and with T5's.

    python3 tests/golden/make_tokenizer_json.py T5_FOLDER > tests/golden/tokenizer_json.h && make format    # T5_FOLDER: google/t5-v1_1-xxl's spiece.model

A run of dashes is not among the words: its best segmentation is a tie, which SentencePiece 0.1.97 and 0.2.3 break differently.

Made with transformers 5.24.0, tokenizers 0.23.3 and sentencepiece 0.2.3.
"""
import hashlib
import os
import shutil
import struct
import sys
import sentencepiece
from transformers import T5Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = ["A woman", "man", "the model", "red", "navy-blue", "dress", "T-shirt", "jacket", "jeans", "size 10½", "walks", "turns", "forward.",
         "left", "48", "2.5cm", "knee-length", "sleeveless", "V-neck", "café", "cafe\u0301", "e\u0301\u0323", "naïve", "façade", "ﬁt", "ＲＥＤ", "ｶﾞ", "ﾊﾟﾝﾂ", "カ\u3099",
         "一位女士", "платье", "şık", "Ångström", "🥻", "❤️", "“quoted”", "it’s", "…", "™", "№", "①", "½", "x²", "\u00ad", "\u200b", "\u00a0", "\ufeff", "\t", "_", "▁",
         "<b>", "http://a.b/c?d=e", "100%", "(", ")", "&amp;", "Dürer", "o\u0308", "\u1e9b\u0323", "한국어", "\u1112\u1161\u11ab", "ไทย", "\ufffd", "aaaa"]
SEPARATORS = [" ", " ", " ", " ", ", ", "  ", "-", "", "\n", "\u3000", " \u0301", "/"]


def captions():
    x = 12345

    def pick(n):
        nonlocal x
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        return (x >> 16) % n
    for _ in range(3000):
        text = ""
        for i in range(1 + pick(24)):
            text += (SEPARATORS[pick(len(SEPARATORS))] if i else "") + WORDS[pick(len(WORDS))]
        yield text


def digest(model):
    sp = sentencepiece.SentencePieceProcessor(model_file=model)
    h = hashlib.sha256()
    for text in captions():
        ids = sp.encode(text)
        h.update(struct.pack(f"<{len(ids) + 1}i", *ids, 1))
    return h.hexdigest()


def c_string(s):
    return '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in s.encode()) + '"'


def main():
    source = os.path.join(HERE, "pipeline/model/tokenizer")
    folder = os.path.join(HERE, "tokenizer")
    shutil.rmtree(folder, ignore_errors=True)
    T5Tokenizer.from_pretrained(source).save_pretrained(folder)
    os.remove(os.path.join(folder, "tokenizer_config.json"))
    print("/* Made by make_tokenizer_json.py; see there. */\n#ifndef WEFT_TESTS_GOLDEN_TOKENIZER_JSON_H\n#define WEFT_TESTS_GOLDEN_TOKENIZER_JSON_H")
    for name, list in (("caption_words", WORDS), ("caption_separators", SEPARATORS)):
        print(f"static const char *const {name}[] = {{")
        for s in list:
            print(f"    {c_string(s)},")
        print("};")
    print(f'static const char small_ids_sha256[] = "{digest(os.path.join(source, "spiece.model"))}";')
    print(f'static const char t5_ids_sha256[] = "{digest(os.path.join(sys.argv[1], "spiece.model"))}";')
    print("#endif")


main()
