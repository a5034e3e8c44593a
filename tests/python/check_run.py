"""Reads the results of a run with the tools users use, and recomputes them.

check_run.py RUN STEP MODEL: STEP is a screen of single knockouts by the step MODEL (an `mlp`), whose impact is
bray-curtis against predicted-null and named `impact`.
"""

import json
import struct
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from scipy.spatial.distance import braycurtis

run, step, model_step = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
screen = run / "steps" / step

record = json.loads((run / "run.json").read_text())
assert record["format"] == 1 and record["plugins"] and record["steps"], record.keys()
for name in ("lacuna", "seed", "pipeline", "timings", "memory"):
    assert name in record, name
for entry in record["steps"]:
    for file in entry["record"]["files"]:
        folder = run / "steps" / entry["step"]
        assert (folder / file["path"]).stat().st_size == file["bytes"], file

# Impacts: the documented columns and types, in obs order, then var order.
manifest = json.loads((screen / "impacts" / "manifest.json").read_text())
parts = [pd.read_parquet(screen / "impacts" / part["file"]) for part in manifest["parts"]]
assert [len(part) for part in parts] == [part["rows"] for part in manifest["parts"]]
impacts = pd.concat(parts, ignore_index=True)
assert len(impacts) == manifest["rows"] > 0
columns = [entry["column"] for entry in manifest["impacts"]]
assert list(impacts.columns) == ["cell", "knockout", "genes", *columns], impacts.columns
assert all(impacts[column].dtype == np.float32 for column in columns)
assert impacts["cell"].map(type).eq(str).all() and impacts["knockout"].map(type).eq(str).all()
assert (impacts["genes"].map(list) == impacts["knockout"].map(lambda k: [k])).all()
first = columns[0]

adata = sc.read_h5ad(screen / "screen.h5ad")
assert isinstance(adata, anndata.AnnData) and adata.n_obs == impacts["cell"].nunique()
cell = impacts["cell"].map({name: i for i, name in enumerate(adata.obs_names)})
gene = impacts["knockout"].map({name: i for i, name in enumerate(adata.var_names)})
assert (np.diff(cell * adata.n_vars + gene) > 0).all(), "the order of results"

# The layer holds the same impacts, explicit zeros too; what scanpy does with X works.
layer = adata.layers["ko_impact" if first == "impact" else f"ko_impact_{first}"]
assert layer.nnz == impacts[first].notna().sum()
assert np.array_equal(np.asarray(layer[cell, gene]).ravel(), impacts[first].fillna(0).to_numpy())
logged = adata.copy()
sc.pp.normalize_total(logged, target_sum=1e4)
sc.pp.log1p(logged)
sc.pp.pca(logged, n_comps=2)

# genes.csv: means, quantiles and ranks of the impacts.
genes = pd.read_csv(screen / "genes.csv")
everyone = genes[(genes["group"] == "all") & (genes["metric"] == first)].set_index("gene")
grouped = impacts.groupby("knockout")[first]
assert np.allclose(everyone["impact_mean"], grouped.mean().loc[everyone.index], rtol=1e-5)
assert np.allclose(everyone["impact_q75"], grouped.quantile(0.75).loc[everyone.index], rtol=1e-5)
assert (everyone["impact_mean"].diff().dropna() <= 0).all() and list(everyone["rank"]) == list(range(1, len(everyone) + 1))
expressed = np.asarray((adata.X > 0).sum(axis=0)).ravel()
assert (everyone["cells"] == pd.Series(expressed, adata.var_names).loc[everyone.index]).all()
half = 1.959963984540054 * grouped.std() / np.sqrt(grouped.count())
assert np.allclose(everyone["impact_upper"] - everyone["impact_mean"], half.loc[everyone.index], rtol=1e-3, atol=1e-9)

# The model itself, from its safetensors: the network of DKO by plain numpy, and its impacts. Of an ensemble their mean.
def network(file):
    raw = file.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    texts = json.loads(header["__metadata__"]["lacuna"])
    assert json.loads(texts["genes"]) == list(adata.var_names)

    def tensor(name):
        begin, end = header[name]["data_offsets"]
        values = np.frombuffer(raw[8 + size + begin : 8 + size + end], dtype="<f4").astype(np.float64)
        return values.reshape(header[name]["shape"])

    return [tensor(name) for name in ("w1", "b1", "w2", "b2")]


folder = run / "steps" / model_step
members = [network(file) for file in [folder / "model.safetensors", *sorted(folder.glob("refits/seed-*"))]]


def predictions(z):
    """One profile for each member."""
    heads = [z * np.abs((z / z.sum() @ w1 + b1) @ w2 + b2) for w1, b1, w2, b2 in members]
    return [a / a.sum() for a in heads]


def predict(z):
    return np.mean(predictions(z), axis=0)


def without(profile, lost):
    null = profile.copy()
    null[lost] = 0
    return null / null.sum()


z_all = (adata.X.toarray() > 0).astype(float)
rng = np.random.default_rng(0)
worst = 0.0
for i in rng.choice(len(impacts), 400, replace=False):
    z = z_all[cell[i]].copy()
    nulls = [without(profile, gene[i]) for profile in predictions(z)]
    z[gene[i]] = 0
    expected = np.mean([braycurtis(after, null) for after, null in zip(predictions(z), nulls)])
    worst = max(worst, abs(expected - impacts[first][i]))
assert worst < 1e-6, worst

# Effects: signed changes of the other genes, for the knockouts with the highest mean impact.
effects = pd.read_parquet(screen / "effects.parquet")
names = ["knockout", "group", "gene", "before", "after", "log2fc", "log2fc_lower", "log2fc_upper", "detection"]
assert list(effects.columns) == names, effects.columns
top = effects["knockout"].drop_duplicates().tolist()
assert top[:50] == list(everyone.index[: len(top[:50])]), top
assert top == [gene for gene in everyone.index if gene in top], top  # those asked for stand at their ranks
assert (effects["knockout"] != effects["gene"]).all()
known = effects.dropna()
assert np.allclose(known["log2fc"], np.log2(known["after"] / known["before"]), atol=1e-6)
assert ((known["log2fc_lower"] <= known["log2fc"]) & (known["log2fc"] <= known["log2fc_upper"])).all()
one = top[0]
rows = cell[impacts["knockout"] == one]
after, before = [], []
for c in rows:
    z = z_all[c].copy()
    before.append(without(predict(z), adata.var_names.get_loc(one)))
    z[adata.var_names.get_loc(one)] = 0
    after.append(predict(z))
of_one = effects[effects["knockout"] == one].set_index("gene")
for column, mean in (("before", np.mean(before, axis=0)), ("after", np.mean(after, axis=0))):
    assert np.allclose(of_one[column], pd.Series(mean, adata.var_names).loc[of_one.index], atol=1e-6), column

# Scores: the documented columns.
for scores in run.glob("steps/*/scores.csv"):
    table = pd.read_csv(scores)
    wanted = ["data", "model", "metric", "stratum", "value", "lower", "upper", "direction", "beats", "scored"]
    wanted += ["interval", "skill"]
    assert list(table.columns) == wanted, table.columns
    bounded = table.dropna(subset=["lower", "upper", "value"])
    assert ((bounded["lower"] <= bounded["value"]) & (bounded["value"] <= bounded["upper"])).all(), scores
    assert table["interval"].notna().equals(table["lower"].notna()), scores

print(f"{len(impacts)} impacts of {len(members)} networks; largest difference to numpy {worst:.1e}")
