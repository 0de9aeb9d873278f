"""What PyTorch, diffusers, peft and bitsandbytes take of memory for the work of tests/bench/bench_memory.c.

    build/release/tests/bench/bench_memory FOLDER
    for c in full 8bit lora; do python3 tests/bench/memory_torch.py FOLDER/model $c; done

Each case in a process of its own: two steps in float32 with gradient checkpointing, on the model that bench_memory made.  "program" is
what is resident before the model is opened: Python, and the libraries' code and data.  Used with torch 2.15.0, diffusers 0.42.1,
peft 0.21.2, bitsandbytes 0.50.2 (its 8-bit AdamW on the CPU).
"""
import resource, sys
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from peft import LoraConfig

FRAMES, HEIGHT, WIDTH, TEXT, TEXT_DIM = 5, 20, 16, 226, 4096


def resident(field):
    with open("/proc/self/status") as f:
        return next(1024 * int(line.split()[1]) for line in f if line.startswith(field))


def main(model, case):
    import bitsandbytes, peft.tuners.lora  # so that their code counts as program in every case
    torch.manual_seed(0)
    torch.zeros(1 << 20).add_(1)
    program = resident("VmRSS")
    net = CogVideoXTransformer3DModel.from_pretrained(model, subfolder="transformer", torch_dtype=torch.float32)
    net.enable_gradient_checkpointing()
    net.train()
    weights = sum(4 * p.numel() for p in net.parameters())
    if case == "lora":
        net.requires_grad_(False)
        net.add_adapter(LoraConfig(r=64, lora_alpha=64, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    trained = [p for p in net.parameters() if p.requires_grad]
    adam = bitsandbytes.optim.AdamW8bit if case == "8bit" else torch.optim.AdamW
    optimizer = adam(trained, lr=1e-5, betas=(0.9, 0.95), weight_decay=1e-4)
    schedule = CogVideoXDDIMScheduler(snr_shift_scale=3.0, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                      prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    for step in range(2):
        x0 = torch.randn(1, FRAMES, 16, HEIGHT, WIDTH)
        noise, text, t = torch.randn_like(x0), torch.randn(1, TEXT, TEXT_DIM), torch.randint(0, 1000, (1,))
        u = net(hidden_states=schedule.add_noise(x0, noise, t), encoder_hidden_states=text, timestep=t, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(u, schedule.get_velocity(x0, noise, t))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bits = sorted({str(v.dtype) for s in optimizer.state.values() for k, v in s.items() if k in ("state1", "state2", "exp_avg")})
    print(f"{case:8s} peak {peak / 1e6:8.0f} MB  program {program / 1e6:6.0f}  weights {weights / 1e6:6.0f}  "
          f"without program {(peak - program) / 1e6:8.0f}  moments {' '.join(bits)}")


main(*sys.argv[1:]) if len(sys.argv) == 3 else sys.exit(__doc__)
