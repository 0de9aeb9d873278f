"""Times torch on what bench_networks runs; called by networks.sh.    python3 networks.py SECONDS clip|inception|i3d

CLIP is transformers' vision tower with its projection, Inception torch-fidelity's module, I3D the
module of tests/golden/make_metric_networks.py; weights at random, float32, CLIP at the better of batches of 1 and 8.
"""
import sys
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
seconds, what = float(sys.argv[1]), sys.argv[2]


def measure(run, items):
    with torch.inference_mode():
        run()
        n, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            run()
            n += items
    return 1000 * (time.process_time() - start) / n


if what == "clip":
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    net = CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
                                                         num_attention_heads=16, image_size=224, patch_size=14, projection_dim=768)).eval()
    cost = min(measure(lambda x=torch.randn(b, 3, 224, 224): net(pixel_values=x), b) for b in (1, 8))
elif what == "inception":
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception
    import tempfile
    Inception.load_state_dict = lambda self, state: None
    with tempfile.NamedTemporaryFile() as f:
        torch.save({}, f.name)
        net = Inception("inception-v3-compat", ["2048"], feature_extractor_weights_path=f.name).eval()
    x = torch.randint(0, 256, (6, 3, 299, 299), dtype=torch.uint8)
    cost = measure(lambda: net(x), 6)
else:
    source = open("tests/golden/make_metric_networks.py").read().split("\ntorch.set_num_threads(1)")[0]
    space = {}
    exec(compile(source, "make_metric_networks.py", "exec"), space)  # its modules, without making the file
    net = space["I3D"](1e-3).eval()
    x = torch.randn(1, 3, 16, 224, 224)
    cost = measure(lambda: net(x), 1)
print("torch %-10s %8.1f ms, 1 thread" % (what, cost))
