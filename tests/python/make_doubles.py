"""Writes cells with single and double knockouts, labelled as GEARS does, and effects that somebody predicted for them.

    python make_doubles.py FOLDER        (cells.h5ad, predicted.csv)

Counts are Poisson about means that each lost gene multiplies; what a double multiplies is not the product of what its
singles do. G0 to G5 are lost alone; six pairs of them together, and G0 with G9, which is not lost alone.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

GENES, DEPTH = 50, 4000
PAIRS = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5), (0, 9)]

folder = Path(sys.argv[1])
rng = np.random.default_rng(11)
genes = [f"G{i}" for i in range(GENES)]
base = np.exp(rng.normal(0, 1, GENES))
alone = {i: rng.normal(0, 0.5, GENES) for i in [0, 1, 2, 3, 4, 5, 9]}
changes = {f"G{i}+ctrl": ([i], alone[i]) for i in range(6)}
for a, b in PAIRS:
    together = rng.normal(0, 0.4, GENES)
    changes[f"G{b}+G{a}"] = ([a, b], alone[a] + alone[b] + together)


def cells(n, lost, change):
    means = base * np.exp(change)
    means[lost] = 0
    return rng.poisson(DEPTH * rng.uniform(0.5, 1.5, (n, 1)) * means / means.sum())


counts, labels = [cells(300, [], 0)], ["ctrl"] * 300
for label, (lost, change) in changes.items():
    counts.append(cells(80, lost, change))
    labels += [label] * 80
counts = np.concatenate(counts).astype(np.float32)
obs = pd.DataFrame({"condition": pd.Categorical(labels)}, index=[f"c{i}" for i in range(len(labels))])
anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(folder / "cells.h5ad")
rows = [
    (label, gene, change[j] + rng.normal(0, 0.2))
    for label, (lost, change) in changes.items()
    for j, gene in enumerate(genes)
]
pd.DataFrame(rows, columns=["knockout", "gene", "effect"]).to_csv(folder / "predicted.csv", index=False)
