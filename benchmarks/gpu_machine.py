"""The machine that `benchmarks/gpu.py` runs on: what it is, what its card holds, how fast it multiplies."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterator

import step
import torch
from gpu import Given, Unit

PACKAGES = ("torch", "pydantic", "numpy", "scipy", "pillow", "safetensors", "torchmetrics")


def environment(given: Given) -> Iterator[Unit]:
    """The machine and torch's settings."""
    card = None
    if given.device == "cuda" and torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        card = {
            "name": found.name,
            "capability": f"{found.major}.{found.minor}",
            "memory_gib": round(found.total_memory / 2**30, 2),
            "multiprocessors": found.multi_processor_count,
            "cards": torch.cuda.device_count(),
            "driver": smi("driver_version"),
            "cudnn": torch.backends.cudnn.version(),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        }
    tf32 = {
        "products": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    figures = {
        "card": card,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": tf32,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    what = "no card is used" if card is None else ", ".join(f"{name} {value}" for name, value in card.items())
    line = (
        f"{what}; torch {figures['torch']}, CUDA {figures['cuda']}, Python {figures['python']}, "
        f"{figures['cpus']} CPUs, {figures['threads']} threads; TF32 in products: {tf32['products']}, in "
        f"convolutions: {tf32['convolutions']}"
    )
    yield Unit("environment", line, figures)


def smi(field: str) -> str | None:
    """What nvidia-smi says of the first card; None where it does not."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def used_mib() -> float | None:
    """MiB of the first card that processes hold, contexts included; None where nvidia-smi does not say."""
    try:
        return float(smi("memory.used") or "")
    except ValueError:
        return None


def peak(given: Given, kind: str) -> float:
    """Multiply-accumulates a second of the best of some square matrix products. `kind`: their arithmetic."""
    size = 8192 if given.device == "cuda" else 128 if given.tiny else 1024
    until = time.perf_counter() + 3.0  # a CPU may be slow in bfloat16
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = kind == "TF32"
    device = torch.device(given.device)
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    clock, best = step.Clock(device), 0.0
    for number in range(3 if given.tiny else 20):
        if number and time.perf_counter() > until:
            break
        clock.at = clock.now()
        a @ b
        best = max(best, size**3 / clock.lap("product"))
    torch.backends.cuda.matmul.allow_tf32 = before
    return best
