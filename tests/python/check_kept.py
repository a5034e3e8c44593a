"""Compares what a screen without its table keeps with what pandas computes from the table of the same screen.

check_kept.py WITH WITHOUT: the folders of the two screens.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

table, kept = Path(sys.argv[1]), Path(sys.argv[2])
manifest = json.loads((table / "impacts" / "manifest.json").read_text())
impacts = pd.concat(pd.read_parquet(table / "impacts" / part["file"]) for part in manifest["parts"])
columns = [entry["column"] for entry in manifest["impacts"]]
first = columns[0]
assert manifest["impacts"][0]["strongest"] == "highest"

# The strongest knockouts of each cell, ties in the order of the table.
cells = pd.read_parquet(kept / "cells.parquet")
count = cells["rank"].max()
order = impacts.reset_index(drop=True)
order["row"] = np.arange(len(order))
order["place"] = order["cell"].map({cell: i for i, cell in enumerate(order["cell"].unique())})
order = order.dropna(subset=[first]).sort_values(["place", first, "row"], ascending=[True, False, True])
strongest = order.groupby("place", sort=False).head(count).reset_index(drop=True)
assert len(cells) == len(strongest) > 100
assert (cells["cell"] == strongest["cell"]).all() and (cells["knockout"] == strongest["knockout"]).all()
for column in columns:
    assert np.array_equal(cells[column], strongest[column], equal_nan=True), column
assert (cells["rank"] == strongest.groupby("place").cumcount() + 1).all()

# Quantiles of single knockouts over all cells, to the width of a bin.
genes = pd.read_csv(kept / "genes.csv")
genes = genes[(genes["group"] == "all") & (genes["metric"] == first)].set_index("gene")
quantiles = impacts.groupby("knockout")[first].quantile([0.05, 0.5, 0.95]).unstack()
for q, name in [(0.05, "impact_q05"), (0.5, "impact_median"), (0.95, "impact_q95")]:
    expected = quantiles[q].reindex(genes.index)
    assert (np.abs(genes[name] - expected) <= expected.abs() / 64 + 1e-12).all(), name
