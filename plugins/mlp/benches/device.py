"""One table: `mlp` on a graphics processor beside PyTorch eager and the device's own limits, in one run.

    python plugins/mlp/benches/device.py [--runtime cuda|wgpu] [--ours PROGRAM] [--small]

Python needs torch (built for the device) and numpy. Ours are measured by the benchmark `table` of lacuna-mlp, which has to be
built with the runtime: `cargo bench -p lacuna-mlp --features cuda,wgpu --bench table --no-run`; cargo runs it, or PROGRAM is
the one that was built, on a machine without cargo. Limits are what PyTorch reaches on the device: copying memory, and
products of large matrices. `--small` is for a device that is software: it shows that everything runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import numpy as np
import torch

RUNS = 5


def ours(program, runtime, small):
    """Our lines."""
    command = [program] if program else [
        "cargo", "bench", "-q", "-p", "lacuna-mlp", "--features", runtime, "--bench", "table", "--",
    ]
    env = dict(os.environ, LACUNA_DEVICE=runtime, LACUNA_SMALL="1" if small else "")
    out = subprocess.run(command + ["device"], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def median(run, device):
    """Seconds of a run, after a first one."""
    def timed():
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    return statistics.median(timed() for _ in range(RUNS))


def network(genes, hidden, device):
    """The published network, or one with hidden layers and ReLU."""
    widths = [genes, *(hidden or [genes]), genes]
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(inputs, outputs)] + ([torch.nn.ReLU()] if hidden else [])
    return torch.nn.Sequential(*layers[: len(layers) - bool(hidden)]).to(device)


def profiles(net, z):
    """Predicted profiles of assemblages, cells × genes."""
    out = net(z / z.sum(1, keepdim=True)).abs() * z
    return out / out.sum(1, keepdim=True)


def bray_curtis(a, b):
    return (a - b).abs().sum(1) / (a + b).sum(1)


def world(cells, genes, presence, device):
    rng = np.random.default_rng(0)
    z = (rng.random((cells, genes)) < presence).astype(np.float32)
    z[np.arange(cells), np.arange(cells) % genes] = 1
    p = z * rng.gamma(1.0, 1.0, (cells, genes)).astype(np.float32)
    return torch.from_numpy(z).to(device), torch.from_numpy(p / p.sum(1, keepdims=True)).to(device)


def training(line, device):
    """Milliseconds a step: Adam on 20 cells, and a look at the validation cells."""
    genes, cells, steps = line["genes"], line["cells"], 20
    z, p = world(cells, genes, line["presence"], device)
    net = network(genes, None, device)
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    fifth = cells // 5

    def run():
        for _ in range(steps):
            with torch.no_grad():
                bray_curtis(profiles(net, z[:fifth]), p[:fifth]).mean().item()
            rows = torch.randint(fifth, cells, (20,), device=device)
            adam.zero_grad()
            bray_curtis(profiles(net, z[rows]), p[rows]).sum().backward()
            adam.step()

    return 1e3 * median(run, device) / steps


def screen(line, device):
    """Pairs a second: each knockout's assemblage through the network."""
    genes, hidden = line["genes"], line["hidden"]
    z, _ = world(200, genes, line["presence"], device)
    net = network(genes, hidden, device)
    cell, gene = z.nonzero(as_tuple=True)
    at_once = max(1, min(1 << 14, (1 << 28) // genes))
    pairs = min(len(cell), 4 * at_once)

    def run():
        with torch.no_grad():
            base = profiles(net, z)
            for start in range(0, pairs, at_once):
                some = slice(start, min(pairs, start + at_once))
                after = z[cell[some]].clone()
                after[torch.arange(len(after), device=device), gene[some]] = 0
                bray_curtis(profiles(net, after), base[cell[some]])

    return pairs / median(run, device)


def limits(device, small):
    """GB/s of copying, and TFLOP/s of products in f32."""
    n = 1 << 22 if small else 1 << 28
    a = torch.empty(n, dtype=torch.float32, device=device)
    b = torch.empty_like(a)
    copied = 8 * n / median(lambda: b.copy_(a), device) / 1e9
    n = 512 if small else 8192
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    torch.backends.cuda.matmul.allow_tf32 = False
    multiplied = 2 * n**3 / median(lambda: a @ b, device) / 1e12
    del a, b
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return copied, multiplied


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=["cuda", "wgpu"], default="cuda")
    parser.add_argument("--ours", help="the benchmark that was built")
    parser.add_argument("--small", action="store_true", help="small sizes")
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bandwidth, peak = limits(device, asked.small)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "the processor"
    print(f"PyTorch {torch.__version__} on {name}: copies {bandwidth:.0f} GB/s, products {peak:.1f} TFLOP/s (f32)\n")
    head = ["what", "ours", "PyTorch", "to PyTorch", "limit", "of the limit"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    for line in ours(asked.ours, asked.runtime, asked.small):
        what, genes, expressed = line["what"], line["genes"], round(line["expressed"])
        if "ms_per_step" in line:
            mine, peer = line["ms_per_step"], training(line, device)
            # Weights and moments are read and written once, weights read in both directions: 32 bytes a parameter.
            least = 32 * 2 * genes * (genes + 1) / bandwidth / 1e6
            cells = [f"{mine:.3g} ms", f"{peer:.3g} ms", f"{peer / mine:.1f} ×", f"{least:.2g} ms", f"{least / mine:.0%}"]
        else:
            mine, peer = line["pairs_per_s"], screen(line, device)
            if line["hidden"]:
                units = [*line["hidden"], expressed]
                most = peak * 1e12 / (2 * sum(a * b for a, b in zip(units, units[1:])))
            else:
                # A row of the map at the expressed genes; caches give more than memory does.
                most = bandwidth * 1e9 / (line["bytes"] * expressed)
            cells = [f"{mine:.3g} pairs/s", f"{peer:.3g} pairs/s", f"{mine / peer:.0f} ×", f"{most:.2g} pairs/s",
                     f"{mine / most:.0%}"]
        print("| " + " | ".join([f"{what}, {genes} genes, {expressed} expressed", *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
