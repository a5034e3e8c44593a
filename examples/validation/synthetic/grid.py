#!/usr/bin/env python3
"""Runs pipeline.toml for many simulated worlds and writes their scores as Markdown. Needs pandas and numpy.

python examples/validation/synthetic/grid.py [--lacuna target/release/lacuna] [--out FOLDER] [--part gates|grid] ...

gates: four networks by three seeds that nothing was tuned on, and communities (glv) of strong and weak interactions.
grid: one seed for each network by absence, mean degree and number of cells.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ["reference", "sparse", "steady-state"]
NETWORKS = [("ER", None), ("SF 2.5", 2.5), ("SF 3.0", 3.0), ("SF 3.5", 3.5)]
SEEDS = [11, 12, 13]
# Column: step, metric, stratum, and whether more is better.
SCORES = {
    "mapping ρ": ("mapping", "spearman", "flattened", True),
    "mapping BC": ("mapping", "bray-curtis", "cells", False),
    "KO ρ": ("impacts", "spearman", "all", True),
    "regulators": ("impacts", "spearman", "regulator", True),
    "anchored KO ρ": ("anchored", "spearman", "all", True),
    "anchored regulators": ("anchored", "spearman", "regulator", True),
}


def world(group, name, seed, simulator="grn", gamma=None, **parameters):
    """A world: where it counts, its name, and what it sets in the pipeline."""
    if gamma is not None:
        parameters |= {"topology": "scale-free", "gamma": gamma}
    sets = {f"steps.world.with.{key}": value for key, value in parameters.items()}
    return group, f"{name}, seed {seed}", seed, {"steps.world.use": simulator} | sets


def gates():
    """The worlds of the first acceptance line, and communities."""
    for seed in SEEDS:
        for name, gamma in NETWORKS:
            yield world("grn", name, seed, gamma=gamma)
        for name, gamma in NETWORKS[:2]:
            yield world("glv", name, seed, simulator="glv", gamma=gamma)
            yield world("glv, weak", name, seed, simulator="glv", gamma=gamma, strength=0.01, connectivity=0.4)


def grid():
    """Around the preset `dko`, one thing at a time: 100 genes, 20 of them absent, mean degree 3, 500 cells."""
    for name, gamma in NETWORKS:
        for absence in [0.1, 0.2, 0.3, 0.4, 0.5]:
            yield world(f"absence {absence}", name, 21, gamma=gamma, absence=absence)
        for degree in [2, 5, 8]:
            yield world(f"mean degree {degree}", name, 21, gamma=gamma, mean_degree=degree)
        for cells in [100, 200, 1000, 2000]:
            yield world(f"{cells} cells", name, 21, gamma=gamma, cells=cells)


def run(arguments, name, seed, sets):
    """Runs one world; the folder of its results."""
    folder = arguments.out / name.replace(" ", "-").replace(",", "")
    command = [arguments.lacuna, "run", HERE / "pipeline.toml", "--quiet", "--seed", str(seed), "--run-dir", folder]
    command += ["--threads", str(arguments.threads)]
    for key, value in sets.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stderr}")
    return folder


def scores(folder):
    """Model → column → score; with the seconds of the fit that the knockouts are made with."""
    found = {model: {} for model in MODELS}
    for column, (step, metric, stratum, _) in SCORES.items():
        table = pd.read_csv(folder / "steps" / step / "scores.csv")
        for row in table[(table.metric == metric) & (table.stratum == stratum)].itertuples():
            found[row.model.removesuffix("-mapper")][column] = row.value
    for model, seconds in fits(folder).items():
        found[model]["fit, s"] = seconds
    return found


def fits(folder):
    """The seconds of each model's fit, of the run that did it: one that found it done keeps what was noted then."""
    notes = folder / "fits.json"
    noted = json.loads(notes.read_text()) if notes.exists() else dict.fromkeys(MODELS, np.nan)
    steps = json.loads((folder / "run.json").read_text())["timings"]["steps"]
    noted |= {s["step"]: s["seconds"] for s in steps if s["step"] in MODELS and not s["reused"]}
    notes.write_text(json.dumps(noted))
    return noted


def student(n, level=0.95):
    """How many standard errors on either side hold this level: Student's t with n − 1 degrees of freedom."""
    # With t = √df · tan θ the density is cos^(df − 1) θ.
    angles = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angles) ** (n - 2)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(np.sqrt(n - 1) * np.tan(np.interp(level, mass / mass[-1], angles)))


def difference(table, model, column):
    """The mean of a model's paired differences from the reference over worlds, and its 95 % interval."""
    values = table[column].unstack("model")
    paired = values[model] - values["reference"]
    half = student(len(paired)) * paired.std(ddof=1) / np.sqrt(len(paired))
    return paired.mean(), paired.mean() - half, paired.mean() + half


def markdown(table):
    """Means by model, then paired differences from the reference, of the worlds of one group."""
    columns = [*SCORES, "fit, s"]
    means = table.groupby("model")[columns].mean().loc[MODELS]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, row in means.iterrows():
        seconds = "–" if np.isnan(row["fit, s"]) else f"{row['fit, s']:.1f}"
        cells = [f"{row[c]:.4f}" for c in SCORES] + [seconds]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    worlds = table.index.get_level_values("world").nunique()
    if worlds < 2:
        return lines
    for model in MODELS[1:]:
        cells = []
        for column in SCORES:
            mean, low, high = difference(table, model, column)
            cells.append(f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]")
        lines.append(f"| {model} − reference | " + " | ".join(cells) + " | |")
    return lines


def main():
    """Runs the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lacuna", default=HERE.parents[2] / "target/release/lacuna", type=pathlib.Path)
    parser.add_argument("--out", default=pathlib.Path("synthetic-runs"), type=pathlib.Path)
    parser.add_argument("--part", action="append", choices=["gates", "grid"])
    parser.add_argument("--threads", default=1, type=int, help="of each run; as many runs at a time as there are cores")
    arguments = parser.parse_args()
    for part in arguments.part or ["gates", "grid"]:
        lines = []
        worlds = list({"gates": gates, "grid": grid}[part]())
        at_once = max(1, (os.cpu_count() or 1) // arguments.threads)
        with ThreadPoolExecutor(at_once) as pool:
            names = [f"{group}, {name}" for group, name, _, _ in worlds]
            jobs = [pool.submit(run, arguments, name, w[2], w[3]) for name, w in zip(names, worlds)]
            folders = [job.result() for job in jobs]
        rows = [
            {"group": w[0], "world": name, "model": model} | values
            for w, name, folder in zip(worlds, names, folders)
            for model, values in scores(folder).items()
        ]
        table = pd.DataFrame(rows).set_index(["group", "world", "model"])
        table.to_csv(arguments.out / f"{part}.csv")
        for group in dict.fromkeys(w[0] for w in worlds):
            own = table.loc[group]
            worlds_of_group = own.index.get_level_values("world").nunique()
            lines += [f"**{group}** ({worlds_of_group} worlds)", "", *markdown(own), ""]
        (arguments.out / f"{part}.md").write_text("\n".join(lines))
        print("\n".join(lines))


if __name__ == "__main__":
    main()
