"""Recomputes scores of a model of perturbations, their intervals over cells, the ceiling and the skill."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

run = Path(sys.argv[1])
world = anndata.read_h5ad(run / "steps/world/cells.h5ad")
counts = np.asarray(world.X.todense(), dtype=float)
labels, genes = world.obs["perturbation"].astype(str).to_numpy(), list(world.var_names)
scores = pd.read_csv(run / "steps/scores/scores.csv", keep_default_na=False, na_values=[""]).set_index(["model", "metric", "stratum"])
tests = pd.read_parquet(run / "steps/scores/differential.parquet").set_index(["perturbation", "gene"])
rng = np.random.default_rng(1)


def logs(rows, target):
    kept = rows.copy()
    kept[:, target] = 0
    return np.log1p(1e4 * kept / kept.sum(axis=1, keepdims=True))


def spearman(a, b):
    return pd.Series(a).corr(pd.Series(b), method="spearman")


controls = counts[labels == "control"]
ceilings = {}
for label in sorted(set(labels) - {"control"}):
    target = genes.index(label)
    other = np.arange(len(genes)) != target
    before, after = logs(controls, target), logs(counts[labels == label], target)
    row = scores.loc[("correlation", "spearman", label)]
    # What the model predicts is taken from another row: the interval is about the measured cells.
    delta = after.mean(axis=0) - before.mean(axis=0)
    best = scores.loc[("first-component", "spearman", label)]
    x = np.log1p(1e4 * controls / controls.sum(axis=1, keepdims=True))
    loadings = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][0]
    predicted = -loadings[target] * loadings
    assert abs(best["value"] - spearman(delta[other], predicted[other])) < 1e-3, (label, best)
    drawn = [
        spearman(
            (after[rng.integers(len(after), size=len(after))].mean(axis=0) - before[rng.integers(len(before), size=len(before))].mean(axis=0))[other],
            predicted[other],
        )
        for _ in range(400)
    ]
    half = 1.96 * np.std(drawn, ddof=1)
    assert best["interval"] == "cells" and 0.75 < (best["upper"] - best["lower"]) / 2 / half < 1.33, (label, best, half)
    # Halves of the cells predict each other.
    halves = []
    for _ in range(200):
        a, b = rng.permutation(len(after)), rng.permutation(len(before))
        parts = [after[a[i::2]].mean(axis=0) - before[b[i::2]].mean(axis=0) for i in (0, 1)]
        halves.append(spearman(parts[0][other], parts[1][other]))
    ceilings[label] = scores.loc[("split-half", "spearman", label), "value"]
    corrected = scores.loc[("split-half (Spearman-Brown)", "spearman", label), "value"]
    assert abs(corrected - 2 * ceilings[label] / (1 + abs(ceilings[label]))) < 1e-12
    assert abs(ceilings[label] - np.mean(halves)) < 0.05 + 3 * np.std(halves) / np.sqrt(20), (label, halves)
    # Which genes change, by the table of the same step.
    changed = tests.loc[label].loc[genes, "p_adjusted"].to_numpy() < 0.05
    size = np.abs(predicted)[other]
    rank = pd.Series(size).rank().to_numpy()
    positive = changed[other]
    found = scores.loc[("first-component", "de-auroc", label), "value"]
    n, m = positive.sum(), (~positive).sum()
    if n >= 5:
        assert abs(found - (rank[positive].sum() - n * (n + 1) / 2) / (n * m)) < 1e-3, (label, found)
    else:
        assert np.isnan(found), (label, found)

skilled = 0
for metric in ("spearman", "pds", "de-auroc"):
    pooled = scores.xs("perturbations", level="stratum").xs(metric, level="metric")
    ceiling = "split-half (Spearman-Brown)" if metric == "spearman" else "split-half"
    low, high = pooled.loc["first-component", "value"], pooled.loc[ceiling, "value"]
    skill = (pooled["value"] - low) / (high - low) if high > low else pooled["value"] * np.nan
    skilled += high > low
    assert np.allclose(pooled["skill"], skill, equal_nan=True), pooled
assert skilled > 0
pooled = scores.xs("perturbations", level="stratum").xs("spearman", level="metric")
assert "split-half (Spearman-Brown)" not in scores.xs("pds", level="metric").index
assert abs(pooled.loc["split-half", "value"] - np.mean(list(ceilings.values()))) < 1e-12
random = scores.loc[("correlation (random targets)", "pds", "perturbations")]
assert random["interval"] == "targets" and random["lower"] <= random["value"] <= random["upper"]
# A truth predicts its own targets better than a guess.
assert pooled.loc["world.truth", "value"] > pooled.loc["world.truth (random targets)", "value"] + 0.1, pooled
print("recomputed", len(ceilings), "perturbations")
