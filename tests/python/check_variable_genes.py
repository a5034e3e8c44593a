"""check_variable_genes.py CELLS.h5ad CHOSEN.h5ad MIN_CELLS N ALWAYS…

The genes of CHOSEN are those that scanpy's seurat flavour chooses among the genes of CELLS that at least the share
MIN_CELLS of its cells express, N in all, ALWAYS among them.
"""

import sys

import scanpy as sc

cells, chosen = sc.read_h5ad(sys.argv[1]), sc.read_h5ad(sys.argv[2])
share, wanted, always = float(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
cells = cells[chosen.obs_names].copy()
sc.pp.normalize_total(cells, target_sum=1e4)
sc.pp.log1p(cells)
expressed = (cells.X > 0).sum(axis=0).A1 if hasattr((cells.X > 0).sum(axis=0), "A1") else (cells.X > 0).sum(axis=0)
cells = cells[:, (expressed >= share * cells.n_obs) & ~cells.var_names.isin(always)].copy()
sc.pp.highly_variable_genes(cells, flavor="seurat", n_top_genes=wanted - len(always))
theirs = set(cells.var_names[cells.var["highly_variable"]]) | set(always)
ours = set(chosen.var_names)
assert ours == theirs, (sorted(ours - theirs), sorted(theirs - ours))
print(f"{len(ours)} genes, the same as scanpy's")
