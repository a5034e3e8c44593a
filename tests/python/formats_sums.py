"""Prints the sums of a matrix file over genes (one a cell) and over cells (one a gene), as Python reads it.

    python formats_sums.py FILE_OR_FOLDER
"""

import json
import sys
import warnings

import numpy as np
import scanpy as sc

warnings.simplefilter("ignore")
path = sys.argv[1]
adata = sc.read_h5ad(path) if path.endswith(".h5ad") else sc.read_10x_mtx(path, make_unique=False)
x = adata.X.astype(np.float64)
sums = {"cells": np.asarray(x.sum(axis=1)).ravel().tolist(), "genes": np.asarray(x.sum(axis=0)).ravel().tolist()}
names = {"obs_names": list(adata.obs_names), "var_names": list(adata.var_names)}
columns = {str(c): [None if v != v else str(v) for v in adata.obs[c]] for c in adata.obs}
json.dump(sums | names | {"obs": columns}, sys.stdout)
