"""Makes tests/golden/sampling.safetensors and sampling.json: what the newest diffusers samples with the tiny pipeline of make_pipeline.py.

    python3 tests/golden/make_sampling.py            (from the repository root; some minutes on a CPU)

Made with torch 2.15.0 (CPU), diffusers 0.42.1, transformers 5.24.0, safetensors 0.8.0.
Schedulers x steps x guidance x frames x shape, all in fp32, each from the noise of seed 42; and decoded frames of some of them,
as the pipeline gives them with output_type="np", in 8 bits.  48 frames are 12 latent frames, 49 are 13.
"""
import json, os
import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = "A woman in a red striped dress turns to the right."
NEGATIVE = "The person in a grey coat walks to the center."
SHAPES = {"portrait": (48, 32), "landscape": (32, 48)}
SHOWN = [0, 1, 2, 8, 9, 24, 40, 46, 47, 48] # frames whose pixels are kept


def run(pipe, steps, guidance, dynamic, negative, frames, shape, **how):
    height, width = SHAPES[shape]
    return pipe(PROMPT, negative_prompt=negative, height=height, width=width, num_frames=frames, num_inference_steps=steps,
                guidance_scale=guidance, use_dynamic_cfg=dynamic, generator=torch.Generator().manual_seed(42), **how).frames


def main():
    torch.set_grad_enabled(False)
    pipe = CogVideoXPipeline.from_pretrained(os.path.join(HERE, "pipeline", "model"), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    tensors, cases = {}, []
    for kind, cls in (("ddim", CogVideoXDDIMScheduler), ("dpm", CogVideoXDPMScheduler)):
        pipe.scheduler = cls.from_config(pipe.scheduler.config)
        for steps in (1, 10, 50):
            for guidance, dynamic, negative in ((1.0, False, None), (6.0, False, None), (7.5, False, None), (6.0, True, None),
                                                (6.0, False, NEGATIVE)):
                for frames in (9, 48, 49):
                    for shape in SHAPES:
                        name = f"{len(cases):03d}"
                        how = (pipe, steps, guidance, dynamic, negative, frames, shape)
                        tensors[name] = run(*how, output_type="latent").float().contiguous()
                        case = {"name": name, "scheduler": kind, "steps": steps, "guidance": guidance, "dynamic": dynamic,
                                "negative": negative or "", "frames": frames, "width": SHAPES[shape][1],
                                "height": SHAPES[shape][0]}
                        if steps == 10 and guidance == 6.0 and not dynamic and not negative and kind == "ddim":
                            pixels = run(*how, output_type="np")[0] # [T,H,W,3] in 0..1
                            kept = [k for k in SHOWN if k < frames]
                            tensors[name + ".rgb"] = torch.from_numpy(np.ascontiguousarray((pixels[kept] * 255).round().astype(np.uint8)))
                            case["shown"] = kept
                        cases.append(case)
                        print(case, flush=True)
    save_file(tensors, os.path.join(HERE, "sampling.safetensors"))
    with open(os.path.join(HERE, "sampling.json"), "w") as f:
        json.dump({"prompt": PROMPT, "seed": 42, "cases": cases}, f, indent=1)
        f.write("\n")


main()
