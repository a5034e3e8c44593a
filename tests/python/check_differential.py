"""Compares differential.parquet with the tables that came with the data, or with scanpy.

The tables print 5 digits of numbers of 32 bits. All agree to these but tests of genes that most cells express, whose ranks
depend on the last bit of logarithms of 32 bits: of these the table has numpy's, and ours are the nearest ones, which is shown
by the same test of either.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, rankdata

run, cells = Path(sys.argv[1]), Path(sys.argv[2])
found = pd.read_parquet(run / "steps/scores/differential.parquet")


def scale(data):
    """Counts per 10,000 in numbers of 32 bits, as scanpy makes them."""
    counts = data.X.toarray().astype(np.float32)
    return counts / (counts.sum(axis=1, dtype=np.float64, keepdims=True) / 1e4).astype(np.float32)


def nearest_log(scaled):
    """log1p, rounded to the nearest number of 32 bits."""
    return np.log1p(scaled.astype(np.float64)).astype(np.float32)


def wilcoxon(values, data):
    """z of each gene between the perturbed cells and the controls, ties corrected."""
    perturbed = (data.obs["perturbation"] != "control").to_numpy()
    n, few = len(perturbed), perturbed.sum()
    ranks = rankdata(values, axis=0)
    ties = np.array([(c**3 - c).sum() for c in (np.unique(v, return_counts=True)[1].astype(float) for v in values.T)])
    spread = np.sqrt(few * (n - few) * (n + 1) / 12 * (1 - ties / (float(n) ** 3 - n)))
    return pd.Series((ranks[perturbed].sum(axis=0) - few * (n + 1) / 2) / np.where(spread > 0, spread, 1), data.var_names)


def digits(printed, found):
    """Whether numbers agree to half a unit of the fifth digit, in numbers of 32 bits."""
    printed, found = np.asarray(printed, float), np.asarray(found, float)
    return np.abs(printed - found) <= 5.1e-5 * np.abs(printed) + 1e-300


def against_table(path):
    truth = pd.read_csv(path)
    both = found.merge(truth, on=["perturbation", "gene"], suffixes=("", "_truth"), validate="one_to_one")
    # Genes that no control expresses are left out by `prepare`; the rates are then among fewer genes.
    left_out = truth[~truth.gene.isin(found.gene)]
    assert len(both) == len(found) == len(truth) - len(left_out) and (left_out.mean_log_ctrl == 0).all()
    if len(left_out):
        both["p_adj"] = false_discovery_control(both.p_truth)
    names = {
        "n_ctrl": "control_cells", "n_ko": "cells", "mean_log_ctrl": "mean_log_control", "mean_log_ko": "mean_log",
        "delta_mean_log": "delta", "log2fc_means": "log2fc", "mean_rel_ctrl": "mean_share_control",
        "mean_rel_ko": "mean_share", "pct_ctrl": "expressed_control", "pct_ko": "expressed",
    }
    for printed, ours in names.items():
        a, b = both[ours].to_numpy(float), both[printed].to_numpy(float)
        # Half a unit of the fifth digit; and what sums of 32 bits leave of differences, and of ratios near 1.
        near = np.abs(a - b) <= 5.1e-5 * np.abs(b) + (1e-5 if ours in ("delta", "log2fc") else 1e-12)
        assert near.all(), (ours, both.loc[~near, ["gene", ours, printed]].head())
    # With numpy's logarithms the test gives the table's digits, with the nearest ones ours.
    data = anndata.read_h5ad(cells)
    scaled = scale(data)
    assert digits(both.wilcoxon_z, wilcoxon(np.log1p(scaled), data).loc[both.gene]).all()
    assert np.allclose(both.z, wilcoxon(nearest_log(scaled), data).loc[both.gene], rtol=1e-9, atol=1e-9)
    same = digits(both.wilcoxon_z, both.z)
    assert same.mean() > 0.97 and np.abs(both.z - both.wilcoxon_z).max() < 6e-4, same.mean()
    assert digits(both.p_truth, both.p)[same].mean() > 0.98
    # Both rates are Benjamini and Hochberg's, of p as they are printed.
    assert np.allclose(both.p_adj, false_discovery_control(both.p_truth), rtol=1.1e-4)
    assert np.allclose(both.p_adjusted, false_discovery_control(both.p), rtol=1e-9)
    print(f"{len(both)} genes agree with {path.name}")


def against_scanpy():
    import scanpy

    data = anndata.read_h5ad(cells)
    data.X = nearest_log(scale(data))
    scanpy.tl.rank_genes_groups(
        data, "perturbation", reference="control", method="wilcoxon", tie_correct=True, corr_method="benjamini-hochberg"
    )
    # Enhancers are no genes: `prepare` leaves their cells out.
    labels = [label for label in data.obs["perturbation"].unique() if label != "control" and not label.endswith("_enh")]
    assert set(labels) == set(found.perturbation), (labels, found.perturbation.unique())
    for label in labels:
        theirs = scanpy.get.rank_genes_groups_df(data, group=label).set_index("names")
        ours = found[found.perturbation == label].set_index("gene").loc[theirs.index]
        for column, other, loss in [("z", "scores", 1e-6), ("p", "pvals", 1e-6), ("p_adjusted", "pvals_adj", 1e-6)]:
            a, b = ours[column].to_numpy(), theirs[other].to_numpy(float)
            assert np.allclose(a, b, rtol=loss, atol=1e-12), (label, column, np.abs(a - b).max())
    print(f"{len(found)} tests agree with scanpy")


if len(sys.argv) > 3:
    against_table(Path(sys.argv[3]))
else:
    against_scanpy()
