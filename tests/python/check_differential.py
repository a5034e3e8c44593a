"""Compares differential.parquet with the tables that came with the data, or with scanpy.

The tables print 5 digits of numbers of 32 bits: there rounding ties shares, or parts them, which moves z by up to 5e-4 for
genes that most cells express. All else agrees to the printed digits. scanpy is given shares without that.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

run, cells = Path(sys.argv[1]), Path(sys.argv[2])
found = pd.read_parquet(run / "steps/scores/differential.parquet")


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
    z = np.abs(both.z - both.wilcoxon_z)
    assert (z < 6e-4).all() and (z <= 5.1e-5 * np.abs(both.wilcoxon_z)).mean() > 0.9, z.describe()
    # A small step of z is a small step of log p.
    for ours, printed in [("p", "p_truth"), ("p_adjusted", "p_adj")]:
        a, b = both[ours].to_numpy(float), both[printed].to_numpy(float)
        assert (np.abs(np.log(a) - np.log(b)) < 6e-4 * (1 + np.abs(both.z)) + 5.1e-5).all(), ours
    print(f"{len(both)} genes agree with {path.name}")


def against_scanpy():
    import scanpy

    data = anndata.read_h5ad(cells)
    counts = data.X.toarray().astype(np.float64)
    data.X = np.log1p(1e4 * (counts / counts.sum(axis=1, keepdims=True)))
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
