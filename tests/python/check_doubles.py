"""Recomputes scores of doubles, of what they do beyond their singles, and of the baselines made of measured effects."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.stats import spearmanr, t

run, folder = map(Path, sys.argv[1:3])
world = anndata.read_h5ad(folder / "cells.h5ad")
counts = np.asarray(world.X, dtype=float)
labels, genes = world.obs["condition"].astype(str).to_numpy(), list(world.var_names)
table = pd.read_csv(run / "steps/scores/scores.csv", keep_default_na=False, na_values=[""])
scores = table.set_index(["model", "metric", "stratum"])
controls = counts[labels == "ctrl"]


def logs(rows, lost):
    kept = rows.copy()
    kept[:, lost] = 0
    return np.log1p(1e4 * kept / kept.sum(axis=1, keepdims=True)).mean(axis=0)


def read(label):
    lost = sorted(genes.index(name) for name in label.split("+") if name != "ctrl")
    return "+".join(genes[i] for i in lost), lost


targets, deltas, predicted = {}, {}, {}
halves = [{}, {}]  # by every other control
told = pd.read_csv(folder / "predicted.csv").pivot(index="knockout", columns="gene", values="effect")[genes]
for label in sorted(set(labels) - {"ctrl"}):
    name, lost = read(label)
    targets[name] = lost
    deltas[name] = logs(counts[labels == label], lost) - logs(controls, lost)
    for half, of_half in enumerate(halves):
        of_half[name] = logs(counts[labels == label], lost) - logs(controls[half::2], lost)
    predicted[name] = told.loc[label].to_numpy()
doubles = [name for name, lost in targets.items() if len(lost) == 2 and all(genes[i] in targets for i in lost)]
assert len(doubles) == 6 and "G0+G9" in targets


def rho(name, a, b):
    kept = np.setdiff1d(np.arange(len(genes)), targets[name])
    return spearmanr(a[kept], b[kept]).statistic


def singles(of, name):
    return sum(of[genes[i]] for i in targets[name])


def others(of, name):
    """The mean effect of all others, each on the genes that it does not hit."""
    rows = [np.where(np.isin(np.arange(len(genes)), targets[k]), np.nan, of[k]) for k in targets if k != name]
    return np.nanmean(rows, axis=0)


def across(made, name):
    """What is made of the one half of the controls, beside what is measured by the other."""
    return np.mean([rho(name, halves[1 - half][name], made(halves[half], name)) for half in (0, 1)])


def near(model, stratum, expected):
    found = scores.loc[(model, "spearman", stratum), "value"]
    assert abs(found - expected) < 2e-3, (model, stratum, found, expected)


ADDITIVE, MEAN = "additive (sees perturbed cells)", "mean-effect (sees perturbed cells)"
additive = {name: across(singles, name) for name in doubles}
own = {name: rho(name, deltas[name], predicted[name]) for name in targets}
beyond = {
    name: rho(name, deltas[name] - singles(deltas, name), predicted[name] - singles(predicted, name))
    for name in doubles
}
for name in targets:
    near("told", name, own[name])
    near(MEAN, name, across(others, name))
for name in doubles:
    near(ADDITIVE, name, additive[name])
    near("told", f"interaction of {name}", beyond[name])
near(ADDITIVE, "doubles", np.mean(list(additive.values())))
near("told", "doubles", np.mean([own[name] for name in doubles]))
near("told", "interaction", np.mean(list(beyond.values())))
assert scores.loc[("told", "spearman", "doubles"), "scored"] == 6
assert 0.3 < scores.loc[("split-half", "spearman", "interaction"), "value"] < 1

# Who says nothing of something has no row, or no value, there.
strata = {model: set(rows.stratum) for model, rows in table[table.metric == "spearman"].groupby("model")}
assert "perturbations" in strata[MEAN] and "doubles" in strata[MEAN] and "interaction" not in strata[MEAN]
assert "G0+G9" not in strata[ADDITIVE] and not {"perturbations", "interaction"} & strata[ADDITIVE]
assert "interaction of G0+G9" not in strata["told"]
assert np.isnan(scores.loc[("correlation", "spearman", "interaction"), "value"])  # its scores add up
assert not (table[table.metric == "pds"].stratum == "interaction").any()

# The gain over the sums of the singles, with Student's interval for two models that are compared.
gains = pd.read_csv(run / "steps/scores/gains.csv").set_index(["model", "baseline", "metric", "stratum"])
gain = gains.loc[("told", ADDITIVE, "spearman", "doubles")]
differences = np.array([own[name] - additive[name] for name in doubles])
half = t.ppf(1 - 0.025 / 2, 5) * differences.std(ddof=1) / np.sqrt(6)
assert abs(gain.gain - differences.mean()) < 2e-3 and abs(gain.level - 0.975) < 1e-9, gain
assert abs(gain.lower - (gain.gain - half)) < 1e-2 and abs(gain.upper - (gain.gain + half)) < 1e-2, (gain, half)
beaten = str(scores.loc[("told", "spearman", "doubles"), "beats"]).split(";")
assert (ADDITIVE in beaten) == (gain.lower > 0), (beaten, gain)
print("recomputed", len(doubles), "doubles of", len(targets), "perturbations; gain", round(gain.gain, 3))
