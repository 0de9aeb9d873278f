"""Opens a run's event files with TensorBoard's own reader and compares them with the run's lines.

    python3 tests/golden/open_in_tensorboard.py RUN          (RUN: what weft-train run wrote, resumed or not)

Tried with tensorboard 2.21.0, with and without its data server.  Every number of log.jsonl and every loss of held_out.jsonl must be there,
at its step, once; pictures are listed.
"""
import json, os, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def lines(run, name):
    path = os.path.join(run, name)
    return [json.loads(line) for line in open(path)] if os.path.exists(path) else []


def numbers(line):
    for key, value in line.items():
        if key not in ("step", "held_out", "held_out_ema", "time") and isinstance(value, (int, float)):
            yield f"train/{key}", value
    for key, value in line["time"].items():
        if isinstance(value, (int, float)):
            yield f"time/{key}", value


def held_out(line):
    yield "held_out/loss", line["loss"]
    for k, value in enumerate(line["deciles"]):
        yield f"held_out/decile_{k}", value
    if "ema" in line:
        yield "held_out/ema_loss", line["ema"]["loss"]


def main():
    run = sys.argv[1]
    read = EventAccumulator(os.path.join(run, "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    read.Reload()
    want = {}
    for line in lines(run, "log.jsonl"):
        for tag, value in numbers(line):
            want.setdefault(tag, []).append((line["step"], value))
    for line in lines(run, "held_out.jsonl"):
        for tag, value in held_out(line):
            want.setdefault(tag, []).append((line["step"], value))
    for tag, points in want.items():
        got = [(e.step, e.value) for e in read.Scalars(tag)]
        assert [s for s, _ in got] == [s for s, _ in points], (tag, got, points)
        assert all(abs(a - b) <= 1e-6 * abs(b) for (_, a), (_, b) in zip(got, points)), tag
        print(f"{tag}: {len(got)} points as in the run's lines")
    for tag in read.Tags()["images"]:
        for e in read.Images(tag):
            print(f"{tag}: step {e.step}, {e.width} x {e.height}, {len(e.encoded_image_string)} bytes")


main()
