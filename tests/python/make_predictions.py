"""Writes the measured differences of a run as anyone's predictions: a table in three formats, and an h5ad."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

run, out = map(Path, sys.argv[1:])
table = pd.read_parquet(run / "steps/scores/differential.parquet")
labels = sorted(set(table["perturbation"]))[1:]
table = table[table["perturbation"].isin(labels)].astype({"delta": float})
long = pd.DataFrame({"knockout": table["perturbation"] + "+ctrl", "gene": table["gene"], "effect": table["delta"]})
long.to_csv(out / "p.csv.gz", index=False)
long.rename(columns={"knockout": "condition", "effect": "lfc"}).to_csv(out / "p.tsv", sep="\t", index=False)
long.astype({"knockout": "category"}).to_parquet(out / "p.parquet")
wide = table.pivot(index="perturbation", columns="gene", values="delta").sort_index(axis=1, ascending=False)
obs = pd.DataFrame({"perturbation": wide.index.to_numpy()}, index=[f"row {i}" for i in range(len(wide))])
data = anndata.AnnData(np.asarray(wide, dtype=np.float64), obs=obs, var=pd.DataFrame(index=wide.columns))
data.write_h5ad(out / "p.h5ad")
print("wrote", len(labels))
