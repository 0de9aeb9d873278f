#!/usr/bin/env python3
"""make_parts.py SPIECE VAE OUT   the demo's base before its pre-training: a pipeline folder in diffusers' layout.

SPIECE is any SentencePiece model with T5's normaliser (make_model writes one); its pieces are replaced by the demo's
words, so that every word is one token.  VAE is the folder that train_vae.py wrote.  The text encoder has one layer of
random weights (seed 7): its residual keeps the words' random vectors, which is enough to tell them apart.  The
transformer has the library's initial weights (seed 11), with modulations and the last layer at zero: each block starts
as the identity.  Pinned: torch 2.15.0, diffusers 0.42.1, sentencepiece 0.2.3."""
import argparse
import json
import os
import shutil

WORDS = ("a woman in plain striped dotted floral checked red yellow green blue purple black white grey dress top skirt "
         "coat without with short long sleeves walks turns the and on of to").split()


def tokenizer(source, out):
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    model.ParseFromString(open(source, "rb").read())
    special = list(model.pieces[:3])
    assert [p.piece for p in special] == ["<pad>", "</s>", "<unk>"], special
    del model.pieces[:]
    model.pieces.extend(special)
    letters = ["\u2581"] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
    for piece, score in [("\u2581" + w, -2.0) for w in WORDS if len(w) > 1] + [("\u2581a", -2.0)] + \
            [(c, -8.0) for c in letters]:
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.vocab_size = len(model.pieces)
    os.makedirs(out, exist_ok=True)
    open(os.path.join(out, "spiece.model"), "wb").write(model.SerializeToString())
    json.dump({"tokenizer_class": "T5Tokenizer", "model_max_length": 16, "eos_token": "</s>", "pad_token": "<pad>",
               "unk_token": "<unk>", "extra_ids": 100, "legacy": True},
              open(os.path.join(out, "tokenizer_config.json"), "w"), indent=2)
    return len(model.pieces)


def text_encoder(pieces, out):
    import torch
    from transformers import T5Config, T5EncoderModel
    torch.manual_seed(7)
    c = T5Config(vocab_size=pieces + 100, d_model=64, d_kv=16, num_heads=4, d_ff=64, num_layers=1,
                 feed_forward_proj="gated-gelu", dropout_rate=0.0)
    m = T5EncoderModel(c)
    with torch.no_grad():
        for name, p in m.named_parameters():
            if p.dim() == 2:
                p.normal_(0, 1 if "shared" in name else 0.05)
    m.half().save_pretrained(out)


def transformer(channels, heads, size, layers, out):
    import torch
    from diffusers import CogVideoXTransformer3DModel
    torch.manual_seed(11)
    m = CogVideoXTransformer3DModel(
        num_attention_heads=heads, attention_head_dim=size, in_channels=channels, out_channels=channels,
        time_embed_dim=128, text_embed_dim=64, num_layers=layers, sample_width=8, sample_height=12, sample_frames=9,
        patch_size=2, temporal_compression_ratio=4, max_text_seq_length=16)
    with torch.no_grad():
        for name, p in m.named_parameters():
            if ".norm1.linear" in name or ".norm2.linear" in name or "norm_out.linear" in name or "proj_out" in name:
                p.zero_()
    m.save_pretrained(out)
    return sum(p.numel() for p in m.parameters())


def main():
    p = argparse.ArgumentParser()
    p.add_argument("spiece")
    p.add_argument("vae")
    p.add_argument("out")
    p.add_argument("--heads", type=int, default=6)
    p.add_argument("--head-size", type=int, default=32)
    p.add_argument("--layers", type=int, default=6)
    a = p.parse_args()
    pieces = tokenizer(a.spiece, os.path.join(a.out, "tokenizer"))
    text_encoder(pieces, os.path.join(a.out, "text_encoder"))
    shutil.copytree(a.vae, os.path.join(a.out, "vae"), dirs_exist_ok=True)
    channels = json.load(open(os.path.join(a.vae, "config.json")))["latent_channels"]
    n = transformer(channels, a.heads, a.head_size, a.layers, os.path.join(a.out, "transformer"))
    from diffusers import CogVideoXDDIMScheduler
    CogVideoXDDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=True, steps_offset=0, prediction_type="v_prediction", timestep_spacing="trailing",
        rescale_betas_zero_snr=True, snr_shift_scale=3.0).save_pretrained(os.path.join(a.out, "scheduler"))
    json.dump({"_class_name": "CogVideoXPipeline", "_diffusers_version": "0.42.1",
               "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
               "text_encoder": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "T5Tokenizer"],
               "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
               "vae": ["diffusers", "AutoencoderKLCogVideoX"]},
              open(os.path.join(a.out, "model_index.json"), "w"), indent=2)
    print(f"{a.out}: {pieces} pieces, transformer of {n} parameters")


if __name__ == "__main__":
    main()
