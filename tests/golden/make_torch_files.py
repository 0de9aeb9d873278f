"""Makes tests/golden/torch_file/*: small files as PyTorch writes them, for tests/unit/store/test_torch_file.c.

Element i of a tensor made by `filled(first, shape)` is first + i, so the test needs no recorded values.
Recorded with torch 2.15.0 (torch.save, its older stream, torch.jit.save).  Run from the repository's root.
"""
import collections
import os
import warnings

import torch

assert torch.__version__.startswith("2.15."), torch.__version__
warnings.filterwarnings("ignore")
FOLDER = "tests/golden/torch_file"


def filled(first, *shape, dtype=torch.float32):
    count = 1
    for extent in shape:
        count *= extent
    return (torch.arange(count, dtype=torch.float64) + first).reshape(shape).to(dtype)


def plain():
    """Every element type and every way of lying in a storage that a state dict meets."""
    base = filled(100, 4, 3)
    state = collections.OrderedDict()
    state["f32"] = filled(0, 2, 3)
    state["f16"] = filled(10, 3, dtype=torch.float16)
    state["bf16"] = filled(20, 2, 2, dtype=torch.bfloat16)
    state["f64"] = filled(30, 2, dtype=torch.float64)
    state["i64"] = filled(7, dtype=torch.int64)  # a scalar, as num_batches_tracked is
    state["u8"] = filled(1, 5, dtype=torch.uint8)
    state["bool"] = torch.tensor([True, False, True])
    state["u16"] = filled(40, 3).to(torch.uint16)  # a storage counted in bytes
    state["base"] = base
    state["rows"] = base[1:3]  # shares the storage, with an offset
    state["transposed"] = base.t()  # shares it, and is not contiguous
    state["column"] = base[:, 1]
    state["empty"] = torch.empty(0, 3)
    state["parameter"] = torch.nn.Parameter(filled(50, 2, 2))
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    return state


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 1, bias=False)
        self.bn = torch.nn.BatchNorm2d(3)
        self.steps = [1, 2, 3]

    def forward(self, x):
        return self.bn(self.conv(x)) * self.steps[0]


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Inner()
        self.fc = torch.nn.Linear(2, 3)
        self.scale = 2.5

    def forward(self, x):
        return self.first(x) * self.scale + self.fc.bias.sum()


def main():
    os.makedirs(FOLDER, exist_ok=True)
    save = lambda value, name, **more: torch.save(value, f"{FOLDER}/{name}", **more)
    save(plain(), "zip.pt")
    save(plain(), "zip_protocol4.pt", pickle_protocol=4)
    older = plain()
    save(older, "stream.pth", _use_new_zipfile_serialization=False)
    save({"epoch": 3, "loss": 0.25, "args": {"lr": 1e-4, "names": ["a", "b"], "none": None},
          "state_dict": {"module.w": filled(0, 2, 3), "module.b": filled(6, 2)},
          "optimizer": {"state": {0: {"exp_avg": filled(0, 2, 3)}}}}, "nested.pt")
    torch.manual_seed(0)
    outer = Outer().eval()
    for i, (_, tensor) in enumerate(sorted(outer.state_dict().items())):
        tensor.copy_(filled(100 * i, *tensor.shape).to(tensor.dtype))
    torch.jit.save(torch.jit.script(outer), f"{FOLDER}/script.pt")
    torch.jit.save(torch.jit.freeze(torch.jit.script(outer)), f"{FOLDER}/frozen.pt")
    # What is refused: a module (a class of the user's), a quantised and a sparse tensor.
    save(torch.nn.Linear(2, 2), "module.pt")
    save({"q": torch.quantize_per_tensor(filled(0, 4), 1.0, 0, torch.qint8)}, "quantised.pt")
    save({"s": torch.eye(2).to_sparse()}, "sparse.pt")
    save(filled(0, 3), "tensor.pt")
    save({"c": torch.zeros(2, dtype=torch.complex64)}, "complex.pt")


main()
