"""Makes tests/golden/i3d_script.pkl and i3d_script.json: I3D as a TorchScript archive, and its logits.

The published i3d_torchscript.pt is torch.jit.script of a class I3D (torch names it __torch__.src.i3dpt_jit.I3D when
it is called wrongly), after src/i3dpt.py of kinetics_i3d_pytorch.  This is a module with the names and shapes of
that class, saved in the same way.  The archive takes 51 MB, so only its data.pkl is kept and, for each of its
storages, the tensor's name and shape; tests/golden/test_metric_networks.c makes the weights of their names.

Older versions of that source pad odd lengths otherwise than TensorFlow, so 16 frames are recorded (8, 4 and 2 after
the strides): there its own I3D (revision 786fbae) gives these logits, and has these 344 names.  Recorded with torch
2.15.0 in float64.  Run from the repository's root; a minute.
"""
import json
import io
import zipfile

import torch
import torch.nn.functional as F

from named_weights import filled

assert torch.__version__.startswith("2.15."), torch.__version__
BLOCKS = [("3b", 192, [64, 96, 128, 16, 32, 32]), ("3c", 256, [128, 128, 192, 32, 96, 64]),
          ("4b", 480, [192, 96, 208, 16, 48, 64]), ("4c", 512, [160, 112, 224, 24, 64, 64]),
          ("4d", 512, [128, 128, 256, 24, 64, 64]), ("4e", 512, [112, 144, 288, 32, 64, 64]),
          ("4f", 528, [256, 160, 320, 32, 128, 128]), ("5b", 832, [256, 160, 320, 32, 128, 128]),
          ("5c", 832, [384, 192, 384, 48, 128, 128])]


class Unit(torch.nn.Module):
    def __init__(self, cin, cout, k=1, s=1, last=False):
        super().__init__()
        before, after = (k - s) // 2, k - s - (k - s) // 2
        self.pad = [before, after] * 3
        self.conv3d = torch.nn.Conv3d(cin, cout, k, s, bias=last)
        self.batch3d = torch.nn.Identity() if last else torch.nn.BatchNorm3d(cout, eps=1e-3)
        self.last = last

    def forward(self, x):
        x = self.conv3d(F.pad(x, self.pad))
        return x if self.last else F.relu(self.batch3d(x))


class Pool(torch.nn.Module):
    def __init__(self, kt, k, st, s):
        super().__init__()
        self.kernel, self.stride = [kt, k, k], [st, s, s]
        half = lambda n: [n // 2, n - n // 2]
        self.pad = half(k - s) * 2 + half(kt - st)

    def forward(self, x):
        return F.max_pool3d(F.pad(x, self.pad), self.kernel, self.stride)


class Mixed(torch.nn.Module):
    def __init__(self, cin, c):
        super().__init__()
        self.branch_0 = Unit(cin, c[0])
        self.branch_1 = torch.nn.Sequential(Unit(cin, c[1]), Unit(c[1], c[2], 3))
        self.branch_2 = torch.nn.Sequential(Unit(cin, c[3]), Unit(c[3], c[4], 3))
        self.branch_3 = torch.nn.Sequential(Pool(3, 3, 1, 1), Unit(cin, c[5]))

    def forward(self, x):
        return torch.cat([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(x)], 1)


class I3D(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.maxPool3d_2a_3x3 = Pool(1, 3, 1, 2)
        self.conv3d_2b_1x1 = Unit(64, 64)
        self.conv3d_2c_3x3 = Unit(64, 192, 3)
        self.maxPool3d_3a_3x3 = Pool(1, 3, 1, 2)
        for name, cin, c in BLOCKS:
            if name == "4b":
                self.maxPool3d_4a_3x3 = Pool(3, 3, 2, 2)
            if name == "5b":
                self.maxPool3d_5a_2x2 = Pool(2, 2, 2, 2)
            setattr(self, "mixed_" + name, Mixed(cin, c))
        self.conv3d_0c_1x1 = Unit(1024, 400, last=True)

    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        x = self.maxPool3d_2a_3x3(self.conv3d_1a_7x7(x))
        x = self.maxPool3d_3a_3x3(self.conv3d_2c_3x3(self.conv3d_2b_1x1(x)))
        x = self.maxPool3d_4a_3x3(self.mixed_3c(self.mixed_3b(x)))
        x = self.mixed_4f(self.mixed_4e(self.mixed_4d(self.mixed_4c(self.mixed_4b(x)))))
        x = self.mixed_5c(self.mixed_5b(self.maxPool3d_5a_2x2(x)))
        x = self.conv3d_0c_1x1(F.avg_pool3d(x, [2, 7, 7], [1, 1, 1]))
        return x.squeeze(4).squeeze(3).mean(2)


def put(net):
    state = net.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = filled(name, tuple(tensor.shape)).to(tensor.dtype)
    net.load_state_dict(state)


def numbers(tensor):
    return [float(f"{v:.7g}") for v in tensor.double().flatten().tolist()]


def pattern(frames):
    t, h, w, c = torch.arange(frames), torch.arange(224), torch.arange(224), torch.arange(3)
    x = 7 * w[None, None, :, None] + 13 * h[None, :, None, None] + 29 * t[:, None, None, None] + 101 * c
    return (x % 256).permute(3, 0, 1, 2)[None].double() * 2 / 255 - 1


def main():
    net = I3D().eval()
    put(net)
    with torch.no_grad():
        logits = net.double()(pattern(16))[0]
    archive = io.BytesIO()
    torch.jit.save(torch.jit.script(net.float()), archive)
    names = {t.numpy().tobytes(): [name, list(t.shape)] for name, t in net.state_dict().items()}
    with zipfile.ZipFile(archive) as z:
        top = z.namelist()[0].split("/")[0]
        count = sum(name.startswith(top + "/data/") for name in z.namelist())
        storages = [names[z.read(f"{top}/data/{i}")] for i in range(count)]
        with open("tests/golden/i3d_script.pkl", "wb") as f:
            f.write(z.read(top + "/data.pkl"))
    with open("tests/golden/i3d_script.json", "w") as f:
        json.dump({"torch": torch.__version__, "logits": numbers(logits), "storages": storages}, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
