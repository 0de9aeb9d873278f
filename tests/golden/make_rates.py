"""Records learning rates of transformers' schedules: tests/golden/rates.json.

    python3 tests/golden/make_rates.py            (from the repository root)

Made with torch 2.15.0 (CPU) and transformers 5.24.0.  Every case has a rate for each of its steps and for three steps beyond its end.
"""
import json, os
import torch
from transformers import get_scheduler

CASES = [
    dict(name="constant", rate=5e-6, warmup=0, steps=6),
    dict(name="constant_with_warmup", rate=5e-6, warmup=4, steps=8),
    dict(name="constant_with_warmup", rate=1e-3, warmup=0, steps=4),
    dict(name="linear", rate=2e-5, warmup=5, steps=24),
    dict(name="linear", rate=1e-3, warmup=0, steps=1),
    dict(name="cosine", rate=1e-4, warmup=5, steps=24),
    dict(name="cosine", rate=1e-4, warmup=0, steps=7),
    dict(name="cosine_with_restarts", rate=1e-4, warmup=3, steps=25, cycles=1),
    dict(name="cosine_with_restarts", rate=1e-4, warmup=4, steps=31, cycles=3),
    dict(name="polynomial", rate=1e-4, warmup=5, steps=24, power=1.0),
    dict(name="polynomial", rate=3e-4, warmup=2, steps=20, power=2.5),
]


def rates(c):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=c["rate"])
    extra = {k: c[a] for k, a in (("num_cycles", "cycles"), ("power", "power")) if a in c}
    schedule = get_scheduler(c["name"], optimizer, num_warmup_steps=c["warmup"], num_training_steps=c["steps"],
                             scheduler_specific_kwargs=extra)
    out = []
    for _ in range(c["steps"] + 3):
        out.append(schedule.get_last_lr()[0])
        optimizer.step(), schedule.step()
    return out


with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "rates.json"), "w") as f:
    json.dump([{**c, "rates": rates(c)} for c in CASES], f, indent=1)
    f.write("\n")
