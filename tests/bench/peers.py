"""The same work by Weft and by PyTorch, diffusers, sentencepiece and ffmpeg, in turns; writes a table.

    make bench-peers PY=.../python                    all of it
    make bench-peers PY=... ROWS="VAE tokenize"       rows whose name holds one of these words; waiting (a step
                                                      beside a busy process), tokenize and prep are such words

Each row is two processes that are ready and wait, and run one after the other, PAIRS (5) times after one
run that does not count: so both see the same machine.  Ratios are the peer's time to Weft's, the median
over the pairs: by the clock, which other work on the machine disturbs, and in processor time.  PAIRS, ROWS,
THREADS ("2 1"), VIDEOS (files for the row prep) and WORK (/tmp/weft-peers, kept) come from the environment.
"""
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
B = os.environ.get("WEFT_BUILD", "build/release")
WORK = Path(os.environ.get("WORK", "/tmp/weft-peers"))
PAIRS = int(os.environ.get("PAIRS", "5"))
# name: part, model, sizes, target of the ratio
MODELS = {
    "VAE 2B, encode 9x64x48": ("encode", "vae-2b", (9, 64, 48), 2.0),
    "VAE 2B, decode 3x8x6": ("decode", "vae-2b", (3, 8, 6), 2.0),
    "VAE 2B, encode 9x128x96": ("encode", "vae-2b", (9, 128, 96), 2.0),
    "VAE 2B, decode 3x16x12": ("decode", "vae-2b", (3, 16, 12), 2.0),
    "VAE demo, encode 9x144x96": ("encode", "vae-demo", (9, 144, 96), 2.5),
    "VAE demo, decode 3x18x12": ("decode", "vae-demo", (3, 18, 12), 3.0),
    "transformer forward, 2,176 tokens": ("forward", "transformer", (13, 30, 20), 1.15),
    "training step, 601 tokens": ("step", "transformer", (5, 30, 20), 1.2),
    "training step, 2,176 tokens": ("step", "transformer", (13, 30, 20), 1.2),
}


# ---- the peer's half of the models ------------------------------------------------------------------------------------------------
def model_class(name):
    import diffusers
    return diffusers.CogVideoXTransformer3DModel if name == "transformer" else diffusers.AutoencoderKLCogVideoX


def make_model(name):
    import torch
    torch.manual_seed(0)
    if name == "transformer":
        return model_class(name)(num_layers=2, sample_frames=49, use_rotary_positional_embeddings=False)
    return model_class(name)()


def folder_of(name):
    return HERE.parent / "demo/base/vae" if name == "vae-demo" else WORK / name


def save_model(name):
    folder = folder_of(name)
    if not (folder / "config.json").exists():
        make_model(name).save_pretrained(folder)
    return folder


def peak_kb():
    """Of this program's memory alone: rusage would count its parent's at the fork."""
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))


def serve(row, threads):
    import torch
    torch.set_num_threads(threads)
    part, name, size, _ = MODELS[row]
    net = model_class(name).from_pretrained(folder_of(name), torch_dtype=torch.float32)
    net.train(part == "step")
    a, b, c = size
    if part == "encode":
        x = torch.rand(1, 3, a, b, c) * 2 - 1
        run = lambda: net.encode(x)
    elif part == "decode":
        z = torch.randn(1, net.config.latent_channels, a, b, c)
        run = lambda: net.decode(z)
    else:
        x, text, t = torch.randn(1, a, 16, b, c), torch.randn(1, 226, 4096), torch.tensor([500])
        forward = lambda: net(hidden_states=x, encoder_hidden_states=text, timestep=t, return_dict=False)[0]
        run = forward
        if part == "step":
            adam = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=1e-4, foreach=True)
            noise = torch.randn_like(x)

            def run():
                torch.nn.functional.mse_loss(forward(), noise).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                adam.step()
                adam.zero_grad()
    with torch.set_grad_enabled(part == "step"):
        for _ in sys.stdin:
            begin, used = time.perf_counter(), time.process_time()
            run()
            print(f"{time.perf_counter() - begin:.4f} {time.process_time() - used:.4f} "
                  f"{peak_kb()}", flush=True)


class Waiting:
    """A process that runs its work once a line."""

    def __init__(self, command, spins=2000):
        """Threads that wait at a barrier turn `spins` times before they sleep: the same for both, since what
        they burn there would count as work on a busy machine."""
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "GOMP_SPINCOUNT": str(spins)})

    def go(self):
        self.p.stdin.write("go\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline().split()
        if not answer:
            sys.exit("peers.py: a process ended: " + " ".join(map(str, self.p.args)))
        return [float(x) for x in answer]

    def end(self):
        self.p.stdin.close()
        self.p.wait()


class Commands:
    """Command lines run side by side, once a go."""

    def __init__(self, commands, before=None):
        self.commands, self.before = commands, before

    def go(self):
        if self.before:
            subprocess.run(self.before, check=True)
        begin, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        for p in [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in self.commands]:
            if p.wait():
                sys.exit("peers.py: failed: " + " ".join(map(str, p.args)))
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return [time.perf_counter() - begin, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, 0]

    def end(self):
        pass


# ---- rows --------------------------------------------------------------------------------------------------------------------------
def pair(name, ours, peer, target, out):
    ours.go(), peer.go()
    pairs = [(ours.go(), peer.go()) for _ in range(PAIRS)]
    ours.end(), peer.end()
    clock, cpu = (statistics.median(b[i] / a[i] for a, b in pairs) for i in (0, 1))
    middle = lambda side, i: statistics.median(p[side][i] for p in pairs)
    memory = f"{pairs[-1][0][2] / 1000:.0f} / {pairs[-1][1][2] / 1000:.0f}" if pairs[-1][0][2] else ""
    load = os.getloadavg()[0]
    line = (f"| {name} | {middle(0, 0):.2f} / {middle(1, 0):.2f} | {clock:.2f} | {middle(0, 1):.2f} / {middle(1, 1):.2f} | {cpu:.2f} | "
            f"{target} | {memory} | {load:.0f} |")
    print(line, flush=True)
    out.append(line)


def waiting(out):
    """Our own step as it is, and with as many turns at a barrier as libgomp takes by itself."""
    row = "training step, 601 tokens"
    part, model, size, _ = MODELS[row]
    command = [f"{B}/tests/bench/bench_peers", "2", save_model(model), part, *map(str, size)]
    for busy in (0, 1):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        beside = "one busy process" if busy else "nothing"
        pair(f"{row}, beside {beside} / the same, its threads spinning", Waiting(command), Waiting(command, 300000),
             3 if busy else 0.98, out)
        for p in others:
            p.kill()
            p.wait()


def tokenize(out):
    tokenizer = os.environ.get("TOKENIZER", "../shared/data/tokenizers/t5")
    one = WORK / "one"
    small = "--preset demo --quiet --set quality.mode=warn --set quality.duplicates=ignore".split()
    if not (one / "dataset.json").exists():
        (WORK / "src").mkdir(exist_ok=True)
        (WORK / "src/c.txt").write_text("A dress.")
        subprocess.run([f"{B}/tests/tools/make_clip", WORK / "src/c.mp4", "480", "720", "30", "240", "1"], check=True)
        subprocess.run([f"{B}/weft-prep", "ingest", WORK / "src", "--out", one, *small], check=True)
    subprocess.run(["sh", HERE / "many_captions.sh", B, WORK, tokenizer, one, "10000"], check=True, stdout=subprocess.DEVNULL)
    p = WORK / "captions-10000"
    pair("tokenise a manifest of 10,000 lines / a script with sentencepiece",
         Commands([[f"{B}/weft-prep", "tokenize", p, "--tokenizer", tokenizer, "--quiet"]]),
         Commands([[sys.executable, HERE / "tokenize_captions.py", f"{tokenizer}/spiece.model", p]]), 1, out)


def prep(out):
    flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
    for video in os.environ.get("VIDEOS", "").split():
        src = WORK / ("src-" + Path(video).stem)
        src.mkdir(exist_ok=True)
        for i in (1, 2):
            (src / f"c{i}.mp4").write_bytes(Path(video).read_bytes())
            (src / f"c{i}.txt").write_text("A dress.")
        scale = f"scale=w='max(480,ceil(720*iw/ih))':h='max(720,ceil(480*ih/iw))':flags={flags}"
        peer = [["ffmpeg", "-v", "error", "-y", "-threads", "1", "-i", src / f"c{i}.mp4", "-an", "-filter_threads", "1", "-vf",
                 f"fps=8,select=lt(n\\,49),{scale},crop=480:720,format=bgr0", "-frames:v", "49", "-threads", "1", "-c:v", "ffv1",
                 "-level", "3", "-g", "1", "-slices", "4", "-slicecrc", "1", WORK / f"f{i}.mkv"] for i in (1, 2)]
        pair(f"prepare two copies of {Path(video).name} / two ffmpeg processes that stop after the window",
             Commands([[f"{B}/weft-prep", "ingest", src, "--out", WORK / "prepared", "--jobs", "2", "--quiet", "--set", "quality.mode=warn",
                        "--set", "quality.duplicates=warn"]], ["rm", "-rf", WORK / "prepared"]),
             Commands(peer), 1.15, out)


def main():
    words = os.environ.get("ROWS", "").split()
    wanted = lambda name: not words or any(w in name for w in words)
    if wanted("prep") and os.environ.get("VIDEOS") and not shutil.which("ffmpeg"):
        sys.exit("peers.py: the row prep compares with the program ffmpeg, which is not there: install it, or leave out VIDEOS")
    WORK.mkdir(parents=True, exist_ok=True)
    out = ["| what: Weft / peer | seconds by the clock | ratio | processor seconds | ratio | target | peak memory, MB | load |",
           "|---|---|---|---|---|---|---|---|"]
    print("\n".join(out), flush=True)
    for threads in os.environ.get("THREADS", "2 1").split():
        for row, (part, model, size, target) in MODELS.items():
            if wanted(row) and (threads == "2" or row.startswith("VAE 2B")):
                folder = save_model(model)
                pair(f"{row}, {threads} thread{'s' if threads != '1' else ''}",
                     Waiting([f"{B}/tests/bench/bench_peers", threads, folder, part, *map(str, size)]),
                     Waiting([sys.executable, __file__, "--serve", row, threads]), 1.9 if threads == "1" else target, out)
    if wanted("waiting"):
        waiting(out)
    if wanted("tokenize"):
        tokenize(out)
    if wanted("prep"):
        prep(out)
    (WORK / "peers.md").write_text("\n".join(out) + "\n")
    print(f"written to {WORK}/peers.md")


if len(sys.argv) == 4 and sys.argv[1] == "--serve":
    serve(sys.argv[2], int(sys.argv[3]))
elif len(sys.argv) == 1:
    main()
else:
    sys.exit(__doc__)
