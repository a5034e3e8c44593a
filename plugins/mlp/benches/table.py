"""One table: the screen and the training of `mlp` beside vectorised PyTorch and a floor in C, in one run.

    python plugins/mlp/benches/table.py PEERS [--threads 2] [--picture growth.svg]

PEERS is the folder with `dko_ref.py` (the published network, and its training vectorised) and `fused.c` (the screen's floor);
Python needs torch and numpy. Medians of five. Ours are measured by `cargo bench -p lacuna-mlp --bench table`, the floor is
compiled here with gcc. Ratios count: run it on a quiet machine.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 5
GENES, CELLS, PRESENCE = 2016, 2000, 0.3


def ours(what, threads):
    """Our lines of one group of measurements."""
    command = ["cargo", "bench", "-q", "-p", "lacuna-mlp", "--bench", "table", "--", what]
    env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    out = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def floor(peers, threads, cells):
    """Pairs a second of the floor in C, base sums counted, as f32 and f16; and its peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fused"
        source = Path(peers) / "fused.c"
        subprocess.run(
            ["gcc", "-O3", "-march=native", "-ffast-math", "-fopenmp", source, "-o", program, "-lm"],
            check=True, stderr=subprocess.DEVNULL,
        )
        rates = {"f32": [], "f16": []}
        for _ in range(RUNS):
            env = dict(os.environ, OMP_NUM_THREADS=str(threads))
            said = subprocess.run(
                [program, str(GENES), str(cells), str(PRESENCE)], env=env, check=True, stdout=subprocess.PIPE, text=True
            ).stdout
            pairs, sums = re.search(r"pairs (\d+)\s+base sums ([\d.]+)s", said).groups()
            for kind in rates:
                seconds = [float(s) for s in re.findall(kind + r" compress ([\d.]+)s", said)]
                rates[kind].append(int(pairs) / (float(sums) + statistics.median(seconds)))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return {kind: statistics.median(values) for kind, values in rates.items()}, peak


TORCH = """
import json, resource, statistics, sys, time
sys.path.insert(0, sys.argv[1])
what, threads, runs = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sys.argv = sys.argv[:1]
import numpy as np, torch
from dko_ref import Net, bc_rows, norm_rows, train_vec
torch.set_num_threads(threads)
torch.manual_seed(0)
rng = np.random.default_rng(0)

def world(cells, genes, presence):
    z = (rng.random((cells, genes)) < presence).astype(np.float32)
    z[np.arange(cells), np.arange(cells) % genes] = 1
    p = z * rng.gamma(1.0, 1.0, (cells, genes)).astype(np.float32)
    return z, norm_rows(z), norm_rows(p)

def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start

def training(genes, cells, held, presence, steps, warm):
    _, x, p = world(cells + held, genes, presence)
    net = Net(genes)
    run = lambda steps: train_vec(x[:cells], p[:cells], x[cells:], p[cells:], steps=steps, rng=rng, net=net)
    run(warm)
    return 1e3 * statistics.median(timed(lambda: run(steps)) for _ in range(runs)) / steps

def screen(genes, cells, presence):
    z, x, _ = world(cells, genes, presence)
    net = Net(genes)
    base = net(x).detach()
    c, g = np.nonzero(z)
    pairs, at_once = 16384, 2048
    def run():
        with torch.no_grad():
            for s in range(0, pairs, at_once):
                cell = torch.from_numpy(c[s:s + at_once])
                inputs = torch.from_numpy(z)[cell].clone()
                inputs[torch.arange(len(cell)), torch.from_numpy(g[s:s + at_once])] = 0
                inputs /= inputs.sum(1, keepdim=True)
                bc_rows(net(inputs), base[cell])
    run()
    return pairs / statistics.median(timed(run) for _ in range(runs))

tasks = {
    "screen": lambda: screen(2016, 2000, 0.3),
    "training 100": lambda: training(100, 400, 100, 0.8, 1000, 250),
    "training 2000": lambda: training(2000, 1600, 400, 0.3, 200, 50),
}
value = tasks[what]()
print(json.dumps({"value": value, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def torch(peers, what, threads):
    """What vectorised PyTorch needs: pairs a second, or milliseconds a step; and its peak memory in MB."""
    command = [sys.executable, "-c", TORCH, str(peers), what, str(threads), str(RUNS)]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    return said["value"], said["peak"]


def rows(peers, threads):
    """The table's lines: what, unit, ours, peer in PyTorch, floor in C, ratios, peaks."""
    screens = {line["what"].split()[-1]: line for line in ours("screen", threads)}
    base, base_peak = torch(peers, "screen", threads)
    floors, floor_peak = floor(peers, threads, CELLS)
    for kind in ("f32", "f16"):
        line = screens[kind]
        rate = line["pairs_per_s"]
        yield [
            f"screen, {kind}, {GENES} genes, {line['expressed']} expressed, {CELLS} cells", "M pairs/s",
            f"{rate / 1e6:.2f}", f"{base / 1e6:.4f}", f"{floors[kind] / 1e6:.2f}", f"{rate / base:.0f} ×",
            f"{100 * rate / floors[kind]:.0f} %", f"{line['peak_mb']:.0f} / {base_peak:.0f} / {floor_peak:.0f}",
        ]
    copy = ours("copy", threads)[0]["gb_per_s"]
    for line in ours("training", threads):
        genes, ms = line["genes"], line["ms_per_step"]
        peer, peak = torch(peers, f"training {genes}", threads)
        # Weights and moments are read and written once each: 28 bytes a parameter, 24 of them here.
        least = 28 * 2 * genes * (genes + 1) / copy / 1e6
        yield [
            f"training, {genes} genes, {line['cells']} cells, validation at each step", "ms a step", f"{ms:.3g}",
            f"{peer:.3g}", f"{least:.2g} (memory)", f"{peer / ms:.1f} ×", f"{100 * least / ms:.0f} %",
            f"{line['peak_mb']:.0f} / {peak:.0f}",
        ]
    alone = ours("gemm", threads)
    hidden = ours("hidden", threads)
    line = hidden[0]
    flops = 2 * (512 * 512 + 512 * line["expressed"]) * line["pairs_per_s"] / 1e9
    # The mean rate of the two products, by their work.
    whole = sum(2 * a * b * c for a, b, c in (x["shape"] for x in alone))
    rate = whole / sum(2 * a * b * c / x["gflops"] for (a, b, c), x in ((x["shape"], x) for x in alone))
    yield [
        f"screen, hidden 512-512, 2000 genes, {line['expressed']} expressed", "GFLOP/s", f"{flops:.0f}", "–",
        f"{rate:.0f} (gemm alone)", "–", f"{100 * flops / rate:.0f} %", f"{line['peak_mb']:.0f}",
    ]
    for line in hidden[1:]:
        yield [
            f"{line['what']}, {line['genes']} genes, {line['cells']} cells", "ms a step", f"{line['ms_per_step']:.3g}",
            "–", "–", "–", "–", f"{line['peak_mb']:.0f}",
        ]


def growth(lines, path):
    """Time a pair and peak memory as genes, expressed genes and cells grow, as an SVG."""
    panels = [("growth genes", "genes", "genes N"), ("growth expressed", "expressed", "expressed genes K"),
              ("growth cells", "cells", "cells")]
    width, height, left, gap = 300, 220, 56, 76
    at = lambda x0, i, xs: x0 + width * (i + 0.5) / len(xs)
    parts = []
    for number, (what, key, label) in enumerate(panels):
        found = [line for line in lines if line["what"] == what]
        xs = [line[key] for line in found]
        micro = [1e6 / line["pairs_per_s"] * line["threads"] for line in found]
        peak = [line["peak_mb"] for line in found]
        x0 = left + number * (width + gap)
        for series, colour, unit, side in ((micro, "#1b6ca8", "µs a pair and thread", 0), (peak, "#c0562b", "peak MB", 1)):
            top = 1.15 * max(series)
            points = [(at(x0, i, xs), 30 + height * (1 - y / top)) for i, y in enumerate(series)]
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
                         + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')
            for (x, y), value in zip(points, series):
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
                text = f"{value:.0f}" if value >= 100 else f"{value:.2g}"
                parts.append(f'<text x="{x:.1f}" y="{y - 7 + (22 if side and y < height else 0):.1f}" fill="{colour}" '
                             f'text-anchor="middle">{text}</text>')
            if number == 0:
                parts.append(f'<text x="{x0}" y="14" dx="{side * 180}" fill="{colour}">{unit}</text>')
        parts.append(f'<path d="M{x0},30 V{30 + height} H{x0 + width}" fill="none" stroke="#444"/>')
        for i, x in enumerate(xs):
            parts.append(f'<text x="{at(x0, i, xs):.1f}" y="{46 + height}" text-anchor="middle">{x}</text>')
        parts.append(f'<text x="{x0 + width / 2}" y="{66 + height}" text-anchor="middle">{label}</text>')
    whole = left + 3 * (width + gap)
    Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {height + 80}" font-family="sans-serif" '
        f'font-size="11" fill="#222"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", type=Path, help="the folder with dko_ref.py and fused.c")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="draw the growth over genes, expressed genes and cells (SVG)")
    asked = parser.parse_args()
    head = ["what", "unit", "ours", "PyTorch", "floor", "to PyTorch", "of the floor", "peak MB: ours / PyTorch / C"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    for row in rows(asked.peers, asked.threads):
        print("| " + " | ".join(row) + " |", flush=True)
    if asked.picture:
        growth(ours("growth", asked.threads), asked.picture)
        print(f"\ngrowth: {asked.picture}")


if __name__ == "__main__":
    main()
