"""Recomputes how far control cells are from those of a perturbation, and halves of these from each other."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist, pdist

run = Path(sys.argv[1])
world = anndata.read_h5ad(run / "steps/world/cells.h5ad")
counts = np.asarray(world.X.todense(), dtype=float)
labels, genes = world.obs["perturbation"].astype(str).to_numpy(), list(world.var_names)
table = pd.read_csv(run / "steps/scores/scores.csv", keep_default_na=False, na_values=[""])
value = table.set_index(["model", "metric", "stratum"])["value"]
rng = np.random.default_rng(1)


def logs(rows, target):
    kept = rows.copy()
    kept[:, target] = 0
    return np.log1p(1e4 * kept / kept.sum(axis=1, keepdims=True))


def e_distance(x, y, metric="euclidean"):
    return 2 * cdist(x, y, metric).mean() - cdist(x, x, metric).mean() - cdist(y, y, metric).mean()


def mmd(x, y):
    gamma = 1 / (2 * np.median(pdist(x, "sqeuclidean")))
    kernel = lambda a, b: np.exp(-gamma * cdist(a, b, "sqeuclidean")).mean()
    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


METRICS = {"e-distance": e_distance, "e-squared": lambda x, y: e_distance(x, y, "sqeuclidean"), "mmd": mmd}
names = sorted(set(labels) - {"control"})
for label in names:
    target = genes.index(label)
    measured, controls = logs(counts[labels == label], target), logs(counts[labels == "control"], target)
    for metric, distance in METRICS.items():
        found, expected = value["no-change", metric, label], distance(measured, controls)
        assert abs(found - expected) < 1e-4 * max(expected, 1), (label, metric, found, expected)
        halves = []
        for _ in range(100):
            order = rng.permutation(len(measured))
            halves.append(distance(measured[order[::2]], measured[order[1::2]]))
        found = value["split-half", metric, label]
        assert abs(found - np.mean(halves)) < 4 * np.std(halves) / np.sqrt(5), (label, metric, found, np.mean(halves))
for metric in METRICS:
    own = table[table.metric == metric]
    # Who predicts no cells is not scored; a truth is nearer than no change.
    assert set(own.model) == {"world.truth", "linear", "no-change", "split-half"}, set(own.model)
    pooled = value.xs("perturbations", level="stratum").xs(metric, level="metric")
    assert abs(pooled["no-change"] - np.mean([value["no-change", metric, name] for name in names])) < 1e-9
    assert set(own.direction) == {"lower"} and own[own.model == "linear"].scored.dropna().eq(3).all()
print("recomputed", len(names), "populations")
