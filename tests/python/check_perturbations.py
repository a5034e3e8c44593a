"""Recomputes the effects of measured perturbations, the scores of models, and a population's screen."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

run = Path(sys.argv[1])
world = anndata.read_h5ad(run / "steps/world/cells.h5ad")
counts = np.asarray(world.X.todense(), dtype=float)
labels = world.obs["perturbation"].astype(str).to_numpy()
genes = list(world.var_names)
control = counts[labels == "control"]


def log_shares(profile):
    return np.log1p(1e4 * profile)


def closed(rows, without=()):
    rows = np.delete(rows, without, axis=1)
    return rows / rows.sum(axis=1, keepdims=True)


def pearson(a, b):
    return np.corrcoef(a, b)[0, 1]


def without(rows, targets):
    """Means over cells of log1p(10,000 p), the targets left out and the rest closed again; 0 at the targets."""
    kept = rows.copy()
    kept[:, targets] = 0
    return log_shares(kept / kept.sum(axis=1, keepdims=True)).mean(axis=0)


def ranked(rows, targets):
    """What py-ranked predicts for cells that lose the targets that they express."""
    out = np.zeros_like(rows)
    for cell, row in enumerate(rows):
        kept = np.setdiff1d(np.flatnonzero(row), targets)
        out[cell, kept] = np.arange(1, len(kept) + 1)
    return out


# The measured effect of each perturbation, beside a correlation with the target, and a model of single cells.
logs = log_shares(closed(control))
with np.errstate(invalid="ignore", divide="ignore"):
    coupled = -np.nan_to_num(np.corrcoef(logs.T))
scores = pd.read_csv(run / "steps/singles-scores/scores.csv").set_index(["model", "metric", "stratum"])
values = scores["value"]
expected = {}
for label in sorted(set(labels) - {"control"}):
    targets = [genes.index(gene) for gene in label.split("+")]
    if len(targets) > 1:
        continue
    measured = np.delete(without(counts[labels == label], targets) - without(control, targets), targets)
    cells = pearson(measured, np.delete(without(ranked(control, targets), targets) - without(ranked(control, []), targets), targets))
    assert abs(values["ranked", "pearson", label] - cells) < 1e-4, (label, cells)
    expected[label] = pearson(measured, np.delete(coupled[targets[0]], targets))
    assert abs(values["coupled", "pearson", label] - expected[label]) < 1e-4, (label, expected[label])
    # What was learned from these very cells is what was measured, but for the share of the target.
    assert values["measured", "pearson", label] > 0.98, label
assert len(expected) == 10
row = scores.loc[("coupled", "pearson", "perturbations")]
found = np.array(list(expected.values()))
half = 2.262 * found.std(ddof=1) / np.sqrt(10)
assert abs(row["value"] - found.mean()) < 1e-4 and row["scored"] == 10
assert abs(row["upper"] - row["lower"] - 2 * half) < 1e-3, row

# A truth predicts better than a correlation; what it predicts is in no way what was measured in the same cells.
doubles = pd.read_csv(run / "steps/doubles-scores/scores.csv").set_index(["model", "metric", "stratum"])["value"]
truth = doubles["world.truth", "pearson", "perturbations"]
assert 0.5 < truth < 0.9999 and truth > doubles["coupled", "pearson", "perturbations"], truth

# A screen by population means: impacts, ranking and effects.
screen = run / "steps/measured-screen"
impacts = pd.read_parquet(screen / "impacts/part-000000.parquet")
assert set(impacts["cell"]) == {"(population)"} and len(impacts) == len(genes)
assert list(impacts["knockout"]) == genes and {"bray-curtis", "euclidean"} < set(impacts.columns)
base = np.expm1(logs.mean(axis=0))
label = sorted(expected)[0]
target = genes.index(label)
shift = log_shares(closed(counts[labels == label])).mean(axis=0) - logs.mean(axis=0)
after = np.expm1(np.maximum(logs.mean(axis=0) + shift, 0))
after[target] = 0
before = np.delete(base, target) / np.delete(base, target).sum()
after = np.delete(after, target) / np.delete(after, target).sum()
row = impacts.set_index("knockout").loc[label]
assert abs(row["bray-curtis"] - np.abs(after - before).sum() / 2) < 1e-5, row
effects = pd.read_parquet(screen / "effects.parquet")
assert effects["knockout"].nunique() == 50 and set(effects["group"]) == {"all"}
own = effects[effects["knockout"] == label].set_index("gene")
assert label not in own.index
kept = [g for g in genes if g != label]
present = own.reindex(kept)["log2fc"].notna().to_numpy()
assert np.allclose(own.reindex(kept)["log2fc"][present], np.log2(after / before)[present], atol=1e-4)
width = own["log2fc_upper"] - own["log2fc_lower"]
assert (width[present[: len(width)]] > 0).all()  # 0.01 on the log1p scale, said by the model
table = pd.read_csv(screen / "genes.csv")
assert len(table) == 2 * len(genes) and table["impact_lower"].isna().all()

# A screen by gene scores.
screen = run / "steps/coupled-screen"
effects = pd.read_parquet(screen / "effects.parquet")
assert list(effects.columns) == ["knockout", "group", "gene", "score", "detection"]
some = effects[effects["knockout"] == label].set_index("gene")["score"]
assert np.allclose(some.reindex(kept), np.delete(coupled[target], target), atol=1e-5)
impacts = pd.read_parquet(screen / "impacts/part-000000.parquet").set_index("knockout")["impact"]
assert abs(impacts[label] - np.sqrt((np.delete(coupled[target], target) ** 2).mean())) < 1e-5
print("recomputed", len(expected), "perturbations")
