"""Builds caches and compares them with what diffusers and transformers compute from the same pixels and captions.

    python3 tests/golden/check_cache.py BUILD [WORK]     (torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, av 18.1.0,
                                                              lmdb 3.0.0)

BUILD is a folder with weft-prep and weft-cache; what `weft-cache build` wrote is read by py-lmdb alone.  Small random models; portrait and landscape, 1, 9, 17, 48 and 49 frames, whole and in
tiles, checkpoints in float32, float16 and bfloat16 (computed in float32, as weft-cache does on a CPU).  Latents and embeddings must agree
within 1e-5 of the largest value.  The printed table is kept in tests/bench/cache.md.
"""
import json, os, struct, subprocess, sys, tempfile
import av, lmdb, numpy, torch
from diffusers import AutoencoderKLCogVideoX
from transformers import T5Config, T5EncoderModel

build, work = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()
os.makedirs(work, exist_ok=True)
LENGTH = 24


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(args)}: exit {done.returncode}\n{done.stderr[-2000:]}")


def models():
    torch.manual_seed(1)
    vae = AutoencoderKLCogVideoX(block_out_channels=(8, 8, 16, 16), latent_channels=4, layers_per_block=1, norm_num_groups=4,
                                 sample_height=96, sample_width=80, scaling_factor=1.15)
    t5 = T5EncoderModel(T5Config(vocab_size=256, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
                                 dropout_rate=0.0, is_encoder_decoder=False, use_cache=False, tie_word_embeddings=False))
    return vae.eval(), t5.eval()


def save(dtype):
    folder = f"{work}/model-{dtype}"
    run(f"{build}/tests/tools/make_encoders", folder)  # for the tokeniser
    vae, t5 = models()
    vae.to(dtype).save_pretrained(f"{folder}/vae")
    t5.to(dtype).save_pretrained(f"{folder}/text_encoder")
    return folder, vae.float(), t5.float()


def source(path, frames, height, width):
    rng = numpy.random.default_rng(frames * height)
    base = rng.integers(0, 256, (height // 8 + 8, width // 8 + 8, 3), dtype=numpy.uint8)
    out = av.open(path, "w")
    stream = out.add_stream("ffv1", rate=8)
    stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
    for t in range(frames + 2):
        big = numpy.kron(numpy.roll(base, t, axis=1), numpy.ones((8, 8, 1), dtype=numpy.uint8))[:height, :width]
        for p in stream.encode(av.VideoFrame.from_ndarray(numpy.ascontiguousarray(big), format="rgb24")):
            out.mux(p)
    for p in stream.encode():
        out.mux(p)
    out.close()


def pixels(path):
    frames = [f.to_ndarray(format="rgb24") for f in av.open(path).decode(video=0)]
    x = torch.from_numpy(numpy.stack(frames)).float() / 127.5 - 1
    return x.permute(3, 0, 1, 2)[None]


def read(cache):
    """The one clip's moments [2C,F,h,w], embedding [L,dim] and ids [L], as schemas/cache.md lays them out."""
    env = lmdb.open(cache, max_dbs=5, readonly=True)
    with env.begin() as txn:
        def record(db, key):
            value = bytes(txn.get(bytes.fromhex(key), db=env.open_db(db, txn=txn, create=False)))
            magic, _, dtype, _, rank, _, *dims, _, _ = struct.unpack("<4sHHBBH5IQQ", value[:48])
            assert magic == b"WEFT" and dtype in (0, 9)
            return torch.from_numpy(numpy.frombuffer(value, "<i4" if dtype == 9 else "<f4", offset=48).reshape(dims[:rank]).copy())
        ((_, entry),) = list(txn.cursor(env.open_db(b"clips", txn=txn, create=False)))
        clip = json.loads(entry.rsplit(b"\n", 1)[0])
        found = record(b"latents", clip["latents"]).permute(3, 0, 1, 2), record(b"text", clip["texts"][0]), record(b"tokens", clip["tokens"][0])
    env.close()
    return found


worst = {"latents": 0.0, "embeddings": 0.0}
saved = {d: save(d) for d in (torch.float32, torch.float16, torch.bfloat16)}
for height, width in ((144, 96), (96, 144)):
    for frames in (1, 9, 17, 48, 49):
        name = f"{frames}-{height}x{width}"
        os.makedirs(f"{work}/src-{name}", exist_ok=True)
        source(f"{work}/src-{name}/c.mkv", max(frames, 9), height, width)
        open(f"{work}/src-{name}/c.txt", "w").write("A woman in a red dress.")
        keys = {"quality.mode": "warn", "quality.duplicates": "ignore", "clip.width": width, "clip.height": height, "clip.min_side": 16,
                "clip.model_frames": frames, "clip.num_frames": frames - (frames % 8 == 1 and frames > 1), "model.text_length": LENGTH}
        common = ["--preset", "demo", "--quiet"] + [x for k, v in keys.items() for x in ("--set", f"{k}={v}")]
        run(f"{build}/weft-prep", "ingest", f"{work}/src-{name}", "--out", f"{work}/prep-{name}", *common)
        run(f"{build}/weft-prep", "tokenize", f"{work}/prep-{name}", "--tokenizer", f"{work}/model-{torch.float32}/tokenizer", *common)
        x = pixels(f"{work}/prep-{name}/clips/c.mkv")
        assert tuple(x.shape) == (1, 3, frames, height, width), x.shape
        for tiled in (False, True):
            for dtype, (folder, vae, t5) in saved.items():
                out = f"{work}/{name}-{tiled}-{dtype}"
                run(f"{build}/weft-cache", "build", f"{work}/prep-{name}", "--out", out, "--model", folder, "--device", "cpu", *common,
                    "--set", f"cache.vae_tiling={str(tiled).lower()}", "--set", "cache.dtype=fp32")
                moments, embedding, ids = read(out)
                vae.enable_tiling() if tiled else vae.disable_tiling()
                with torch.no_grad():
                    want = vae.encode(x).latent_dist.parameters[0]
                    text = t5(input_ids=ids[None].long()).last_hidden_state[0]
                error = ((moments - want).abs().max() / want.abs().max()).item()
                error_text = ((embedding - text).abs().max() / text.abs().max()).item()
                worst = {"latents": max(worst["latents"], error), "embeddings": max(worst["embeddings"], error_text)}
                print(f"| {width}x{height} | {frames} | {'tiles' if tiled else 'whole'} | {str(dtype)[6:]} | {error:.1e} | {error_text:.1e} |", flush=True)
                assert error < 1e-5 and error_text < 1e-5
print("worst:", worst)
