"""Writes the small files that host/src/formats is tested on, and what Python reads from each.

    python formats_fixtures.py [FOLDER]      (tests/fixtures/formats)

Needs anndata 0.12, h5py, scipy; hdf5plugin for the two files that must be refused. The same
versions write the same files. NAME.json beside each file holds what anndata makes of it, so
the Rust tests compare with Python's own reading.
"""

import gzip
import json
import pathlib
import sys
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

HERE = pathlib.Path(__file__).resolve().parent
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "fixtures" / "formats"
CELLS = [f"AAAC-{i}" for i in range(1, 8)]
# Layouts that HDF5 1.10 to 1.14 know. "latest" is that of HDF5 2.0, which few programs read.
NEW = ("v110", "v114")
GENES = ["Trem2", "Apoe", "β-actin", "MT-CO1", "Cd9"]


def counts(seed=7, shape=(7, 5), dtype="f4"):
    x = np.random.default_rng(seed).poisson(1.2, shape).astype(dtype)
    x[3] = 0  # a cell without counts
    return x


def plain(value):
    """A value as JSON holds it: missing is null, a number is a number, the rest is text."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(value)
    return str(value)


def column(name, values):
    out = {"name": name, "kind": "other"}
    if isinstance(values.dtype, pd.CategoricalDtype):
        out |= {"kind": "category", "ordered": bool(values.cat.ordered)}
        categories = [plain(c) for c in values.cat.categories]
        out["categories"] = [c if isinstance(c, str) else repr(c) for c in categories]
        out["values"] = [None if c < 0 else out["categories"][c] for c in values.cat.codes]
        return out
    kinds = {"i": "integer", "u": "integer", "f": "float", "b": "boolean", "O": "string"}
    out["kind"] = kinds.get(values.dtype.kind, "other")
    out["values"] = [plain(v) for v in values]
    return out


def frame(df):
    return [column(str(c), df[c]) for c in df.columns]


def numbers(x):
    """Rows of float32 values; what JSON has no number for becomes text."""
    dense = np.asarray(x.todense() if sp.issparse(x) else x).astype("f4")
    return [[float(v) if np.isfinite(v) else str(v) for v in row] for row in dense]


def encoding(x):
    return x.format if sp.issparse(x) else "dense"


def expected(adata):
    out = {
        "obs_names": [str(n) for n in adata.obs_names],
        "var_names": [str(n) for n in adata.var_names],
        "obs": frame(adata.obs),
        "var": frame(adata.var),
        "matrices": {},
    }
    parts = {} if adata.X is None else {"X": adata.X}
    parts |= {f"layers/{k}": v for k, v in adata.layers.items()}
    if adata.raw is not None:
        parts["raw/X"] = adata.raw.X
        out["raw_var_names"] = [str(n) for n in adata.raw.var_names]
        out["raw_var"] = frame(adata.raw.var)
    for name, x in parts.items():
        out["matrices"][name] = {"encoding": encoding(x), "dense": numbers(x)}
    return out


def save_json(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (OUT / name).write_text(text + "\n", encoding="utf-8")


def annotated(x, var_names=None):
    shape = x.shape
    obs = pd.DataFrame(index=CELLS[: shape[0]])
    var = pd.DataFrame(index=(var_names or GENES)[: shape[1]])
    return ad.AnnData(x, obs=obs, var=var)


def save(name, adata, compact=True, change=None, readable=True, **kwargs):
    """Writes with anndata; compact files use the newest HDF5 layout, others what write_h5ad uses.
    Not readable: Python can't read the changed file, so what was written is what is expected."""
    path = OUT / f"{name}.h5ad"
    if compact:
        with h5py.File(path, "w", libver=NEW) as f:
            ad.io.write_elem(f, "/", adata, dataset_kwargs=kwargs)
    else:
        adata.write_h5ad(path, **kwargs)
    if change is not None:
        with h5py.File(path, "r+", libver=NEW) as f:
            change(f)
    save_json(f"{name}.json", expected(ad.read_h5ad(path) if readable else adata))


def replace(f, name, data, **kwargs):
    attrs = dict(f[name].attrs)
    del f[name]
    made = f.create_dataset(name, data=data, **kwargs)
    made.attrs.update(attrs)


def matrices():
    save("csr-gzip", annotated(sp.csr_matrix(counts())), compact=False, compression="gzip")

    def lzf(f):
        for part in ("data", "indices", "indptr"):
            kwargs = dict(compression="lzf", shuffle=True, chunks=(4,))
            dtype = "i4" if part == "data" else "i8"
            replace(f, f"X/{part}", f[f"X/{part}"][:].astype(dtype), **kwargs)

    save("csr-lzf-integers", annotated(sp.csr_matrix(counts())), change=lzf)
    save("csc", annotated(sp.csc_matrix(counts(8))), compression="gzip")
    save(
        "dense-f32",
        annotated(counts(9) / np.float32(3)),
        change=lambda f: replace(f, "X", f["X"][:], compression="gzip", chunks=(2, 3)),
    )
    save("dense-f64", annotated(np.random.default_rng(3).normal(size=(7, 5))))

    def odd_types(f):
        data, indices, indptr = (f[f"X/{p}"][:] for p in ("data", "indices", "indptr"))
        replace(f, "X/data", data.astype(">f8"))
        replace(f, "X/indices", indices.astype("u2"))
        replace(f, "X/indptr", indptr.astype(">u8"))
        for part, dtype in (("data", "f2"), ("indices", "u4"), ("indptr", "i8")):
            replace(f, f"layers/half/{part}", f[f"layers/half/{part}"][:].astype(dtype))
        replace(f, "layers/bytes", f["layers/bytes"][:].astype("u1"))

    adata = annotated(sp.csr_matrix(counts(10)))
    adata.layers["half"] = sp.csr_matrix(counts(11) / np.float32(4))
    adata.layers["bytes"] = counts(12)
    save("odd-types", adata, change=odd_types, readable=False)

    zeros = sp.csr_matrix(
        (np.array([2, 0, 1, 4, 1, 3], "f4"), np.array([4, 1, 0, 2, 2, 3]), np.array([0, 3, 3, 6])),
        shape=(3, 5),
    )  # explicit zero, columns out of order, a repeated column
    save("unsorted-zeros-repeats", annotated(zeros))


def frames():
    adata = annotated(sp.csr_matrix(counts(13)))
    obs = adata.obs
    obs["condition"] = pd.Categorical(["WT", "KO", "WT", None, "KO", "WT", "KO"], ["WT", "unused", "KO"])
    obs["stage"] = pd.Categorical(list("baababa"), ["b", "a"], ordered=True)
    obs["batch"] = pd.Categorical([3, 1, 3, 1, 2, 2, 3], [3, 1, 2])
    obs["dose"] = pd.Categorical([0.5, 1.0, 0.5, 10.25, 1.0, np.nan, 0.5])
    obs["treated"] = pd.Categorical([True, False, True, True, False, False, True])
    obs["größe"] = [f"Zelle {i} – µ" for i in range(7)]
    save("columns-text", adata)

    adata = annotated(sp.csr_matrix(counts(14)))
    obs = adata.obs
    for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        info = np.iinfo(dtype)
        obs[f"n_{dtype}"] = np.array([info.min, 0, 1, 2, 3, 4, info.max], dtype)
    obs["score"] = np.array([0.5, np.nan, -1.25, 3e38, 0, 1e-30, 7], "f4")
    obs["precise"] = np.array([0.1, 1 / 3, np.nan, 1e300, -0.5, 0, 2])
    obs["doublet"] = [True, False, False, True, False, True, True]
    save("columns-numbers", adata)

    with ad.settings.override(allow_write_nullable_strings=True):
        adata = annotated(sp.csr_matrix(counts(15)))
        obs = adata.obs
        obs["n"] = pd.array([1, None, 3, 4, None, 6, 7], dtype="Int32")
        obs["flag"] = pd.array([True, None, False, True, None, True, False], dtype="boolean")
        obs["note"] = pd.array(["a", None, "ccc", "", "e", "f", None], dtype="string")
        adata.var["length"] = pd.array([1, 2, 3, None, 5], dtype="UInt16")
        adata.var.index = pd.Index(GENES, dtype="string")
        save("columns-nullable", adata)

    adata = annotated(sp.csr_matrix(counts(16)))
    adata.obs.index.name = "cell_id"
    adata.obs["x"] = range(7)
    adata.var.index.name = "gene"
    save("named-index", adata)


def wholes():
    raw = annotated(sp.csr_matrix(counts(17, (7, 5))))
    raw.var["gene_ids"] = [f"ENSMUSG{i:011d}" for i in range(5)]
    adata = raw[:, [0, 2, 4]].copy()
    adata.raw = raw
    adata.layers["counts"] = adata.X.copy()
    adata.layers["scaled"] = np.asarray(adata.X.todense()) - np.float32(1.5)
    adata.X = sp.csr_matrix(np.log1p(adata.X.todense()))
    adata.obsm["X_pca"] = np.zeros((7, 2))
    adata.uns["log1p"] = {"base": None}
    save("raw-and-layers", adata)

    adata = annotated(sp.csr_matrix(counts(18)))
    adata.layers["counts"] = adata.X.copy()
    adata.X = None
    save("no-x", adata)

    save("no-cells", annotated(sp.csr_matrix((0, 5), dtype="f4")))
    save("one-cell", annotated(sp.csr_matrix(counts(19, (7, 5))[:1])))
    save("not-finite", annotated(np.array([[1, np.nan, 2], [np.inf, -np.inf, 0]], "f4")))


def old_layouts():
    """Files as anndata 0.6 and 0.7 wrote them, made by hand."""
    x = sp.csr_matrix(counts(20))
    text = h5py.string_dtype()

    def frame_07(f, key, names, columns):
        g = f.create_group(key)
        g.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "index"})
        g.attrs["column-order"] = np.array(list(columns), dtype=text)
        g.create_dataset("index", data=np.array(names, dtype=object), dtype=text)
        for name, values in columns.items():
            if isinstance(values, pd.Categorical):
                cats = g.require_group("__categories").create_dataset(
                    name, data=np.array(values.categories, dtype=object), dtype=text
                )
                cats.attrs["ordered"] = bool(values.ordered)
                g.create_dataset(name, data=values.codes).attrs["categories"] = cats.ref
            else:
                g.create_dataset(name, data=values)

    path = OUT / "anndata-07.h5ad"
    with h5py.File(path, "w", libver=NEW) as f:
        g = f.create_group("X")
        g.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": x.shape})
        for part in ("data", "indices", "indptr"):
            g.create_dataset(part, data=getattr(x, part))
        kinds = pd.Categorical(["T", "B", None, "T", "B", "T", "T"], ["T", "B"])
        frame_07(f, "obs", CELLS, {"kind": kinds, "depth": np.arange(7.0)})
        frame_07(f, "var", GENES, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_json("anndata-07.json", expected(ad.read_h5ad(path)))

    with h5py.File(OUT / "refused-anndata-06.h5ad", "w", libver=NEW) as f:
        g = f.create_group("X")
        g.attrs.update({"h5sparse_format": b"csr", "h5sparse_shape": x.shape})
        for part in ("data", "indices", "indptr"):
            g.create_dataset(part, data=getattr(x, part))
        for key, names in (("obs", CELLS), ("var", GENES)):
            rows = np.array([(n.encode(),) for n in names], dtype=[("index", "S12")])
            f.create_dataset(key, data=rows)


def refused():
    import hdf5plugin

    for name, kwargs in (("zstd", hdf5plugin.Zstd()), ("blosc", hdf5plugin.Blosc())):

        def squeeze(f, kwargs=kwargs):
            for part in ("data", "indices"):
                replace(f, f"X/{part}", f[f"X/{part}"][:], chunks=(4,), **kwargs)
            replace(f, "obs/depth", f["obs/depth"][:], chunks=(4,), **kwargs)

        adata = annotated(sp.csr_matrix(counts(21)))
        adata.obs["depth"] = np.arange(7)
        save(f"refused-{name}", adata, change=squeeze)

    with h5py.File(OUT / "refused-hdf5-2.h5ad", "w", libver="latest") as f:
        ad.io.write_elem(f, "/", annotated(sp.csr_matrix(counts())), dataset_kwargs={"compression": "gzip"})


def tenx():
    x = sp.csc_matrix(counts(22).T.astype("i4"))  # features × barcodes
    dense = counts(22).astype("f4")
    ids = [f"ENSMUSG{i:011d}" for i in range(5)]
    kinds = ["Gene Expression"] * 4 + ["Antibody Capture"]
    kept = dense[:, :4]

    def answer(name, values, names, **columns):
        out = {"obs_names": CELLS, "var_names": names, "obs": [], "var": []}
        out["var"] = [{"name": k, "kind": "string", "values": v} for k, v in columns.items()]
        save_json(name, out | {"matrices": {"X": {"encoding": "csr", "dense": numbers(values)}}})

    def fill(g):
        for part in ("data", "indices", "indptr"):
            g.create_dataset(part, data=getattr(x, part), compression="gzip", chunks=(8,))
        g.create_dataset("shape", data=np.array(x.shape, "i4"))
        g.create_dataset("barcodes", data=np.array([c.encode() for c in CELLS]))

    names = np.array([g.encode() for g in GENES])
    with h5py.File(OUT / "tenx-v3.h5", "w", libver=NEW) as f:
        g = f.create_group("matrix")
        fill(g)
        g = g.create_group("features")
        g["id"], g["name"] = np.array([i.encode() for i in ids]), names
        g["feature_type"] = np.array([k.encode() for k in kinds])
        g["genome"] = np.array([b"mm10"] * 4 + [b""])
    answer("tenx-v3.json", kept, GENES[:4], gene_ids=ids[:4], feature_types=kinds[:4], genome=["mm10"] * 4)
    with h5py.File(OUT / "tenx-v2.h5", "w", libver=NEW) as f:
        g = f.create_group("mm10")
        fill(g)
        g["genes"], g["gene_names"] = np.array([i.encode() for i in ids]), names
    answer("tenx-v2.json", dense, GENES, gene_ids=ids)

    def folder(name, features, field="integer", zipped=False, entries=None):
        path = OUT / name
        path.mkdir(exist_ok=True)
        coo = x.tocoo()
        rows = entries or [f"{i + 1} {j + 1} {v}" for i, j, v in zip(coo.row, coo.col, coo.data)]
        head = f"%%MatrixMarket matrix coordinate {field} general\n%metadata_json: {{}}\n"
        texts = {
            "matrix.mtx": head + f"5 7 {len(rows)}\n" + "".join(r + "\n" for r in rows),
            "barcodes.tsv": "".join(c + "\n" for c in CELLS),
            features: "".join(
                "\t".join([i, g] + ([k] if features == "features.tsv" else [])) + "\n"
                for i, g, k in zip(ids, GENES, kinds)
            ),
        }
        for file, text in texts.items():
            data = text.encode()
            file, data = (file + ".gz", gzip.compress(data, mtime=0)) if zipped else (file, data)
            (path / file).write_bytes(data)

    folder("mtx-v3-gz", "features.tsv", zipped=True)
    answer("mtx-v3-gz.json", kept, GENES[:4], gene_ids=ids[:4], feature_types=kinds[:4])
    folder("mtx-v2", "genes.tsv")
    answer("mtx-v2.json", dense, GENES, gene_ids=ids)
    coo = x.tocoo()
    by_gene = np.lexsort((coo.col, coo.row))
    real = [f" {coo.row[k] + 1}\t{coo.col[k] + 1}   {coo.data[k] / 4:.6e} " for k in by_gene]
    folder("mtx-real", "genes.tsv", field="real", entries=real)
    answer("mtx-real.json", dense / 4, GENES, gene_ids=ids)
    pattern = [f"{i + 1} {j + 1}" for i, j in zip(coo.row, coo.col)]
    folder("mtx-pattern", "genes.tsv", field="pattern", entries=pattern)
    answer("mtx-pattern.json", (dense > 0).astype("f4"), GENES, gene_ids=ids)


def tables():
    x = counts(23) / np.float32(8)
    made = {"obs": [], "var": []}

    def save_table(name, text, cells, genes, values=x):
        data = text.encode()
        path = OUT / name
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        out = made | {"obs_names": cells, "var_names": genes}
        stem = name.split(".")[0]
        save_json(f"{stem}.json", out | {"matrices": {"X": {"encoding": "csr", "dense": numbers(values)}}})

    bare = pd.DataFrame(x.T)
    numbered = [f"cell-{i}" for i in range(1, 8)], [f"gene-{i}" for i in range(1, 6)]
    save_table("table-bare.csv", bare.to_csv(header=False, index=False), *numbered)
    many = np.arange(24, dtype="f4").reshape(12, 2)
    names = ["cell-1", "cell-2"], [f"gene-{i:02d}" for i in range(1, 13)]
    text = pd.DataFrame(many).to_csv(header=False, index=False)
    save_table("table-bare-windows.csv", text.replace("\n", "\r\n"), *names, values=many.T)
    named = annotated(x).to_df()
    save_table("table-pandas.csv.gz", named.to_csv(), CELLS, GENES)
    save_table("table-tabs.tsv", named.to_csv(sep="\t"), CELLS, GENES)
    quoted = named.to_csv(sep=";", quoting=2)
    save_table("table-semicolons.csv", "\ufeff" + quoted, CELLS, GENES)
    rows = named.to_csv(sep=" ").splitlines()
    r_table = "\n".join([rows[0].strip()] + rows[1:]).replace(" ", "\t") + "\n"
    save_table("table-r.tsv", r_table, CELLS, GENES)  # write.table: no cell above the names
    save_table("table-genes-by-cells.csv", named.T.to_csv(), CELLS, GENES)
    (OUT / "gene-names.txt").write_text("".join(g + "\n" for g in GENES), encoding="utf-8")
    frame = pd.DataFrame({"gene": GENES, "length": range(5)})
    (OUT / "gene-names.csv").write_text(frame.to_csv(index=False), encoding="utf-8")


OUT.mkdir(parents=True, exist_ok=True)
for step in (matrices, frames, wholes, old_layouts, refused, tenx, tables):
    step()
large = [p.name for p in OUT.rglob("*") if p.is_file() and p.stat().st_size > 30_000]
if large:
    sys.exit(f"larger than 30 kB: {large}")
print(f"{sum(p.is_file() for p in OUT.rglob('*'))} files in {OUT}")
