"""Says which measured perturbations are informative: at least 10 other genes change (Wilcoxon, Benjamini-Hochberg, 5 %), and
the changes in two halves of the cells agree (mean Spearman of 10 splits above 0.2). Shares are of what is left without the
target. Arguments: folder of the shared data, then the names that are expected.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
from scipy.stats import false_discovery_control, mannwhitneyu, spearmanr

SETS = [
    "mouse_microglia_trem2.h5ad",
    "mouse_lung_endothelium_nkx2-1_indirect.h5ad",
    "human_k562_crispri_tapseq.h5ad",
]
ENHANCERS = {"HS2_enh": "HBE1", "MYC_enh": "MYC", "GATA1_enh": "GATA1", "ZFPM2_enh": "ZFPM2"}

folder, expected = Path(sys.argv[1]), set(sys.argv[2:])
random = np.random.default_rng(1)


def agreement(x, perturbed, control):
    def halves(cells):
        shuffled = random.permutation(np.flatnonzero(cells))
        return shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]

    a, b = halves(perturbed), halves(control)
    changes = [x[a[i]].mean(axis=0) - x[b[i]].mean(axis=0) for i in range(2)]
    return spearmanr(*changes).statistic


informative = set()
for name in SETS:
    data = anndata.read_h5ad(folder / name)
    counts = data.X.toarray().astype(float)
    labels = data.obs["perturbation"].astype(str)
    control = (labels == "control").to_numpy()
    for label in sorted(set(labels) - {"control"}):
        target = ENHANCERS.get(label, label)
        others = data.var_names != target
        kept = counts[:, others]
        x = np.log1p(1e4 * kept / kept.sum(axis=1, keepdims=True))
        x = x[:, x[control].mean(axis=0) > 0]
        perturbed = (labels == label).to_numpy()
        p = mannwhitneyu(x[perturbed], x[control]).pvalue
        changed = int((false_discovery_control(p) < 0.05).sum())
        rho = np.mean([agreement(x, perturbed, control) for _ in range(10)])
        print(f"{target}: {changed} genes change, halves agree at {rho:.2f}")
        if changed >= 10 and rho > 0.2:
            informative.add(target)
assert informative == expected, informative
