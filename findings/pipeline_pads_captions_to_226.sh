#!/bin/sh
# Guess:  CogVideoXPipeline pads a caption to the length that its transformer was made for
#         (max_text_seq_length in transformer/config.json), as it takes frames and sizes from the
#         configurations of its parts.
# Seen:   the length is an argument of the call, max_sequence_length, and is 226 for every transformer.  One made
#         for 16 tokens is given 226 and stops with a RuntimeError about tensor sizes (238 against 28) that names
#         neither captions nor the argument; with max_sequence_length=16 it samples.  So a shared pipeline of
#         another caption length opens anywhere and samples only for those who know that number.
# Seen with diffusers 0.42.1, transformers 5.24.0, torch 2.15.0 (Python 3.11, x86-64).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 sentencepiece==0.2.1
"$dir/venv/bin/python" - <<'PY'
import diffusers
import torch
import transformers
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

print("diffusers", diffusers.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
diffusers.utils.logging.disable_progress_bar()
LENGTH = 16


class Words:
    """Stands for a tokenizer: pads with 0 to the length that the pipeline asks for."""
    asked = []

    def __call__(self, text, padding=None, max_length=None, **rest):
        self.asked.append(max_length)
        ids = torch.ones(len(text), max_length or 1, dtype=torch.long)
        return type("Ids", (), {"input_ids": ids})()

    def batch_decode(self, ids):
        return [""]


torch.manual_seed(0)
t5 = transformers.T5EncoderModel(transformers.T5Config(vocab_size=8, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
vae = AutoencoderKLCogVideoX(block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
                             sample_height=32, sample_width=32)
dit = CogVideoXTransformer3DModel(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
                                  text_embed_dim=32, num_layers=1, sample_width=4, sample_height=4, sample_frames=9,
                                  max_text_seq_length=LENGTH)
words = Words()
pipe = CogVideoXPipeline(tokenizer=None, text_encoder=t5, vae=vae, transformer=dit, scheduler=CogVideoXDDIMScheduler())
pipe.tokenizer = words
pipe.set_progress_bar_config(disable=True)
call = dict(prompt="a dress", height=32, width=32, num_frames=9, num_inference_steps=1, guidance_scale=1.0, output_type="latent")
try:
    pipe(**call)
    raise SystemExit("this has changed: it samples")
except RuntimeError as e:
    print("asked for", max(filter(None, words.asked)), "tokens of a transformer that was made for", LENGTH, "->", e)
    assert max(filter(None, words.asked)) == 226 and "size of tensor" in str(e), "this has changed"
latents = pipe(max_sequence_length=LENGTH, **call).frames
print("max_sequence_length=16:", tuple(latents.shape))
print("still so")
PY
