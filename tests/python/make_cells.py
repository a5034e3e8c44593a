"""Streams simulated cells to an h5ad file, a block of rows at a time: the memory does not depend on their number.

    python make_cells.py OUT.h5ad --cells 100000 --genes 20000 --expressed 2000

Counts are CSR. Genes have log-normal abundances; each cell type shifts those of some genes; a cell expresses about
`--expressed` genes. obs has `cell_type` and `batch`; the same arguments give the same counts.
"""

import argparse

import h5py
import numpy as np

ROWS = 500
CHUNK = 1 << 18


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--genes", type=int, default=200)
    parser.add_argument("--expressed", type=int, default=60, help="genes that a cell expresses, about")
    parser.add_argument("--types", type=int, default=4, help="cell types")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compression", choices=["gzip", "none"], default="gzip")
    return parser.parse_args()


def abundances(a, rng):
    """Expected counts of each gene in each cell type, so that about `expressed` genes have one or more."""
    base = np.exp(rng.normal(0, 1.5, a.genes))
    shift = np.exp(rng.normal(0, 1.0, (a.types, a.genes)) * (rng.random((a.types, a.genes)) < 0.1))
    rates = base * shift
    low, high = 1e-9, 1e9
    for _ in range(200):
        scale = np.sqrt(low * high)
        found = (1 - np.exp(-scale * rates)).sum(axis=1).mean()
        low, high = (scale, high) if found < min(a.expressed, 0.99 * a.genes) else (low, scale)
    return scale * rates


def dataframe(file, name, index, columns):
    group = file.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
    group.attrs["column-order"] = np.array(list(columns), dtype=object) if columns else np.array([], dtype="S1")
    text = h5py.string_dtype()
    group.create_dataset("_index", data=np.array(index, dtype=object), dtype=text)
    group["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    for column, (codes, categories) in columns.items():
        category = group.create_group(column)
        category.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
        category.create_dataset("codes", data=codes.astype(np.int8))
        category["codes"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        category.create_dataset("categories", data=np.array(categories, dtype=object), dtype=text)
        category["categories"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def grown(group, name, dtype, compression):
    return group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), compression=compression)


def append(dataset, values):
    dataset.resize(dataset.shape[0] + len(values), axis=0)
    dataset[-len(values):] = values


def main():
    a = arguments()
    rng = np.random.default_rng(a.seed)
    rates = abundances(a, rng)
    kind = rng.integers(0, a.types, a.cells)
    compression = None if a.compression == "none" else "gzip"
    with h5py.File(a.out, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        x = file.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        x.attrs["shape"] = np.array([a.cells, a.genes], dtype=np.int64)
        data, indices = grown(x, "data", "f4", compression), grown(x, "indices", "i4", compression)
        offsets = [0]
        for start in range(0, a.cells, ROWS):
            types = kind[start:start + ROWS]
            depth = np.exp(rng.normal(0, 0.2, len(types)))
            counts = rng.poisson(rates[types] * depth[:, None])
            counts[counts.sum(axis=1) == 0, 0] = 1
            rows, columns = np.nonzero(counts)
            append(data, counts[rows, columns].astype("f4"))
            append(indices, columns.astype("i4"))
            ends = offsets[-1] + np.cumsum(np.bincount(rows, minlength=len(types)))
            offsets.extend(ends.tolist())
        x.create_dataset("indptr", data=np.array(offsets, dtype="i8"))
        types = [f"type {t}" for t in range(a.types)]
        batches = (np.arange(a.cells) * 3 // max(a.cells, 1), ["one", "two", "three"])
        names = [f"cell-{i}" for i in range(a.cells)]
        dataframe(file, "obs", names, {"cell_type": (kind, types), "batch": batches})
        dataframe(file, "var", [f"g{j}" for j in range(a.genes)], {})
        for name in ["layers", "obsm", "varm", "obsp", "varp", "uns"]:
            file.create_group(name).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})


main()
