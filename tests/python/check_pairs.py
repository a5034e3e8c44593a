"""Recomputes how well a screen tells what the loss of two genes does beyond what that of each does, and ranks knockouts."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.stats import kendalltau

steps = Path(sys.argv[1]) / "steps"
scores = pd.read_csv(steps / "scores/scores.csv").set_index(["model", "metric", "stratum"])


def impacts(name):
    table = pd.concat(map(pd.read_parquet, sorted((steps / name / "impacts").glob("part-*.parquet"))))
    return table.set_index(["cell", "knockout"])["impact"].astype(float)


predicted, true = impacts("screen"), impacts("truth")
pairs = [(cell, name) for cell, name in predicted.index if "+" in name]
both = pd.DataFrame({"predicted": predicted, "true": true})
alone = [sum(both.loc[(cell, gene)] for gene in name.split("+")) for cell, name in pairs]
doubles = both.loc[pairs]
beyond = doubles - np.array(alone)


def near(stratum, metric, expected):
    found = scores.loc[("model", metric, stratum), "value"]
    assert abs(found - expected) < 1e-4, (stratum, metric, found, expected)


near("doubles", "pearson", doubles.corr().iloc[0, 1])
near("doubles", "bray-curtis", (doubles.predicted - doubles.true).abs().sum() / doubles.sum().sum())
near("interaction", "pearson", beyond.corr().iloc[0, 1])
assert ("model", "bray-curtis", "interaction") not in scores.index  # it is of numbers that are not below 0

# The ranking of the knockouts by their mean impact, of all and of those of regulators.
var = anndata.read_h5ad(steps / "world/cells.h5ad").var
means = both.groupby(level="knockout").mean()
regulators = [name for name in means.index if var.loc[name.split("+"), "regulator"].all()]
assert 10 < len(regulators) < len(means) / 2
for stratum, own in (("knockout-means", means), ("knockout-means of regulator", means.loc[regulators])):
    near(stratum, "kendall", kendalltau(own.predicted, own.true).statistic)
    n = round(0.1 * len(own))
    top = set(own.predicted.nlargest(n).index) & set(own.true.nlargest(n).index)
    near(stratum, "top-precision", len(top) / n)
    for metric in ("ndcg", "rbo", "top-auprc"):
        assert 0 < scores.loc[("model", metric, stratum), "value"] < 1
assert not {"ndcg", "rbo"} & set(scores.xs("interaction", level="stratum").index.get_level_values("metric"))
assert beyond.true.std() > 1e-3 and scores.loc[("model", "pearson", "interaction"), "lower"] < 1
print("recomputed", len(beyond), "interactions")
