"""Checks that anndata and scanpy read a written h5ad file as it should be.

    python formats_check.py FILE.h5ad EXPECTED.json [FILE.h5ad EXPECTED.json ...]

EXPECTED.json is what formats_fixtures.py writes beside each file: names, columns and dense matrices.
A matrix may also state its `indptr`, `indices` and `data`, which then have to be so, stored zeros
included, and a column its pandas `dtype`. `raw/X` is never written and not looked for. Exit code 0 when all is equal.
"""

import json
import sys
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp

PROBLEMS = []


def same(what, found, expected):
    if found != expected:
        PROBLEMS.append(f"{what}: {found!r} was read, {expected!r} was expected")


def plain(value, kind):
    if value is None or value is pd.NA or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return None
    if kind == "boolean":
        return "true" if value else "false"
    return {"integer": int, "float": float}.get(kind, str)(value)


def check_column(what, series, column):
    kind = column["kind"]
    if kind == "category":
        same(f"{what}, ordered", bool(series.cat.ordered), column["ordered"])
        same(f"{what}, categories", [str(c) for c in series.cat.categories], column["categories"])
    same(what, [plain(v, kind) for v in series], column["values"])
    if "dtype" in column:
        same(f"{what}, dtype", str(series.dtype), column["dtype"])


def check_frame(what, df, names, columns):
    same(f"{what} names", list(df.index), names)
    same(f"{what} columns", list(df.columns), [c["name"] for c in columns])
    for column in columns:
        if column["name"] in df:
            check_column(f"{what}[{column['name']!r}]", df[column["name"]], column)


def check_matrix(what, x, expected):
    rows = np.array(expected["dense"], dtype="f4").reshape(x.shape)
    dense = np.asarray(x.todense() if sp.issparse(x) else x)
    same(f"{what} dtype", str(dense.dtype), "float32")
    if not np.array_equal(dense, rows, equal_nan=True):
        PROBLEMS.append(f"{what}: {dense.tolist()} was read, {rows.tolist()} was expected")
    for part in ("indptr", "indices", "data"):
        if part in expected:
            same(f"{what}.{part}", getattr(x, part).tolist(), expected[part])


def check(adata, expected):
    check_frame("obs", adata.obs, expected["obs_names"], expected["obs"])
    check_frame("var", adata.var, expected["var_names"], expected["var"])
    found = {"X": adata.X} | {f"layers/{k}": v for k, v in adata.layers.items()}
    wanted = {name: matrix for name, matrix in expected["matrices"].items() if name != "raw/X"}
    same("matrices", sorted(found), sorted(wanted))
    for name, matrix in wanted.items():
        if name in found:
            check_matrix(name, found[name], matrix)
    for empty in ("obsm", "varm", "obsp", "varp", "uns"):
        same(empty, len(getattr(adata, empty)), 0)


def check_chunks(path):
    def visit(name, item):
        if isinstance(item, h5py.Dataset) and item.chunks and max(item.chunks) > 32768:
            PROBLEMS.append(f"{name} has chunks of {item.chunks}")

    with h5py.File(path) as f:
        f.visititems(visit)


warnings.simplefilter("ignore")
for path, answer in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    with open(answer, encoding="utf-8") as f:
        expected = json.load(f)
    before = len(PROBLEMS)
    for read in (ad.read_h5ad, sc.read_h5ad):
        check(read(path), expected)
    check_chunks(path)
    PROBLEMS[before:] = [f"{path}: {problem}" for problem in PROBLEMS[before:]]
print("\n".join(dict.fromkeys(PROBLEMS)) or "equal")
sys.exit(bool(PROBLEMS))
