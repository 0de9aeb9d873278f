"""Makes tests/golden/metric_networks.json: features of Inception v3 and I3D with weights made by a rule, and resized rows.

Recorded with torch 2.15.0, torch-fidelity 0.4.0 (Inception v3 and its TF1 resize), Pillow 13.0.0; I3D is written out below after
TensorFlow's graph (SAME padding, mean over time of the logits), in float64.  Run from the repository's root; a minute.

Weights: element i of the tensor called `name` is made of u(crc32(name), i) as in `filled`; tests/golden/test_metric_networks.c has
the same rule, so no weights are stored.
"""
import json
import sys
import tempfile

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image

import torch_fidelity
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from named_weights import u


def filled(name, shape):
    count = int(np.prod(shape))
    v = u(name, count)
    if name.endswith("running_var") or name.endswith("bn.weight"):
        v = 0.5 + v
    elif name.endswith("running_mean") or name.endswith("bias"):
        v = 0.1 * (2 * v - 1)
    else:
        v = (2 * v - 1) * np.sqrt(6 / (count / shape[0]))
    return torch.from_numpy(v.reshape(shape).astype(np.float32))


def pattern(frames, height, width):
    t, h, w, c = np.ogrid[:frames, :height, :width, :3]
    return ((7 * w + 13 * h + 29 * t + 101 * c) % 256).astype(np.uint8)


def put(module):
    state = module.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = filled(name, tuple(tensor.shape)).to(tensor.dtype)
    module.load_state_dict(state)


def numbers(tensor):
    return [float(f"{v:.7g}") for v in tensor.double().flatten().tolist()]


class Inception:
    def __init__(self):
        FeatureExtractorInceptionV3.load_state_dict = lambda self, state: None  # the constructor wants a file of weights
        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            torch.save({}, file.name)
            self.net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits", "logits_unbiased"],
                                                   feature_extractor_weights_path=file.name)
        del FeatureExtractorInceptionV3.load_state_dict
        put(self.net)
        self.net.double().eval()
        self.net.feature_extractor_internal_dtype = torch.float64  # the argument "float64" means float32 in 0.4.0

    def __call__(self, pictures):
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        with torch.no_grad():
            pool3, logits, unbiased = self.net(x)
        return {"pool3": numbers(pool3), "logits": numbers(logits), "logits_unbiased": numbers(unbiased)}


def same(x, kernel, stride):
    """TensorFlow's SAME padding: front half rounded down, the rest behind."""
    pads = []
    for n, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        whole = max(k - (n % s or s), 0)
        pads += [whole // 2, whole - whole // 2]
    return F.pad(x, pads)


class Unit(torch.nn.Module):
    def __init__(self, cin, cout, k, s, eps):
        super().__init__()
        self.k, self.s = (k,) * 3, (s,) * 3
        self.conv3d = torch.nn.Conv3d(cin, cout, k, s, bias=False)
        self.bn = torch.nn.BatchNorm3d(cout, eps=eps)

    def forward(self, x):
        return F.relu(self.bn(self.conv3d(same(x, self.k, self.s))))


def pool(x, kernel, stride):
    return F.max_pool3d(same(x, kernel, stride), kernel, stride)


class Mixed(torch.nn.Module):
    def __init__(self, cin, c, eps):
        super().__init__()
        self.b0 = Unit(cin, c[0], 1, 1, eps)
        self.b1a, self.b1b = Unit(cin, c[1], 1, 1, eps), Unit(c[1], c[2], 3, 1, eps)
        self.b2a, self.b2b = Unit(cin, c[3], 1, 1, eps), Unit(c[3], c[4], 3, 1, eps)
        self.b3b = Unit(cin, c[5], 1, 1, eps)

    def forward(self, x):
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)),
                          self.b3b(pool(x, (3, 3, 3), (1, 1, 1)))], 1)


class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv3d = torch.nn.Conv3d(1024, 400, 1)


class I3D(torch.nn.Module):
    BLOCKS = [("3b", 192, [64, 96, 128, 16, 32, 32]), ("3c", 256, [128, 128, 192, 32, 96, 64]),
              ("4b", 480, [192, 96, 208, 16, 48, 64]), ("4c", 512, [160, 112, 224, 24, 64, 64]),
              ("4d", 512, [128, 128, 256, 24, 64, 64]), ("4e", 512, [112, 144, 288, 32, 64, 64]),
              ("4f", 528, [256, 160, 320, 32, 128, 128]), ("5b", 832, [256, 160, 320, 32, 128, 128]),
              ("5c", 832, [384, 192, 384, 48, 128, 128])]

    def __init__(self, eps):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2, eps)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1, 1, eps)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3, 1, eps)
        for name, cin, c in self.BLOCKS:
            setattr(self, "Mixed_" + name, Mixed(cin, c, eps))
        self.logits = Logits()

    def forward(self, x):
        x = pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name, _, _ in self.BLOCKS:
            if name == "4b":
                x = pool(x, (3, 3, 3), (2, 2, 2))
            if name == "5b":
                x = pool(x, (2, 2, 2), (2, 2, 2))
            x = getattr(self, "Mixed_" + name)(x)
        return self.logits.conv3d(F.avg_pool3d(x, (2, 7, 7), 1)).squeeze(4).squeeze(3).mean(2)


def i3d(eps, frames):
    net = I3D(eps)
    put(net)
    net.double().eval()
    x = torch.from_numpy(pattern(frames, 224, 224)).permute(3, 0, 1, 2)[None].double() * 2 / 255 - 1
    with torch.no_grad():
        return numbers(net(x))


def resized():
    """One 10x7 picture by each rule; Pillow's in float, as clean-fid calls it."""
    picture = pattern(1, 7, 10)[0]
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].double()
    out = {}
    for name, (h, w) in {"smaller": (4, 5), "larger": (9, 13)}.items():
        pillow = lambda kind: torch.from_numpy(np.stack(
            [np.asarray(Image.fromarray(picture[:, :, c].astype(np.float32), "F").resize((w, h), kind)) for c in range(3)]))
        rules = {"tf1": interpolate_bilinear_2d_like_tensorflow1x(x, (h, w), align_corners=False)[0],
                 "half_pixel": F.interpolate(x, (h, w), mode="bilinear", align_corners=False)[0],
                 "triangle": pillow(Image.Resampling.BILINEAR), "bicubic": pillow(Image.Resampling.BICUBIC)}
        out[name] = {"size": [h, w], **{k: numbers(v.permute(1, 2, 0)) for k, v in rules.items()}}
    return out


torch.set_num_threads(1)
inception = Inception()
portrait = pattern(1, 36, 24)
golden = {
    "versions": {"torch": torch.__version__, "torch_fidelity": torch_fidelity.__version__, "pillow": PIL.__version__},
    "inception": inception(pattern(1, 299, 299)),
    "inception_portrait": {k: v[:64] for k, v in inception(portrait).items()},  # resized by TF1's rule from 24x36
    "i3d": {f"eps{eps:g}_T{frames}": i3d(eps, frames) for eps, frames in ((1e-3, 9), (1e-5, 9), (1e-3, 17))},
    "resized": resized(),
}
with open("tests/golden/metric_networks.json", "w") as f:
    json.dump(golden, f, separators=(",", ":"))
    f.write("\n")
shared = "../shared/data/golden/metrics.json"
try:
    other = json.load(open(shared))
    a, b = np.array(golden["i3d"]["eps1e-05_T9"]), np.array(other["i3d"]["eps1e-05_T9"]["logits"])
    print("I3D against an earlier record:", np.abs(a - b).max(), file=sys.stderr)
except (OSError, KeyError) as error:
    print(error, file=sys.stderr)
