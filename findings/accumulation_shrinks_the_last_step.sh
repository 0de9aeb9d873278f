#!/bin/sh
# Guess:  ten samples, batch 1, gradient_accumulation_steps 4: three optimiser steps, each with the mean
#         gradient of its own samples: 4, 4 and 2 of them.
# Seen:   Accelerator.accumulate ends the last group early, at the end of the data, but every loss was
#         already divided by 4: the last step's gradient is half of its mean.  With 480 clips, batch 2
#         and accumulation 7 the last of the 35 steps of every epoch counts two sevenths.  The gradient
#         norm in a log dips once an epoch for this reason.
# Seen with accelerate 1.15.0, torch 2.15.0 (Python 3.11, x86-64).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 accelerate==1.15.0
"$dir/venv/bin/python" - <<'PY'
import accelerate
import torch

print("accelerate", accelerate.__version__, "torch", torch.__version__)
samples = torch.arange(1.0, 11.0)  # the gradient of sample x is x
acc = accelerate.Accelerator(gradient_accumulation_steps=4, cpu=True)
model = torch.nn.Linear(1, 1, bias=False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(samples), batch_size=1)
model, optimizer, loader = acc.prepare(model, optimizer, loader)
for epoch in range(2):
    seen = []
    for (x,) in loader:
        with acc.accumulate(model):
            acc.backward(model(x.view(1, 1)).sum())
            if acc.sync_gradients:
                seen.append(model.weight.grad.item())
            optimizer.step()
            optimizer.zero_grad()
    means = [samples[k:k + 4].mean().item() for k in range(0, 10, 4)]
    print(f"epoch {epoch}: gradients {seen}, means of the groups {means}")
    assert seen == [2.5, 6.5, 4.75] and means == [2.5, 6.5, 9.5], "this has changed"
print("still so")
PY
