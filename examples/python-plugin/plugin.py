"""A plugin in Python: one component of each kind. Needs numpy and pyarrow."""

import io

import lacuna_plugin as lacuna
import numpy as np
import pyarrow as pa


class Hellinger(lacuna.Metric):
    "Hellinger distance between two profiles, from 0 (equal) to 1 (nothing shared)"

    id = "py-hellinger"
    high = 1.0
    floor = lacuna.number(0.0, "Shares below this one count as 0", minimum=0.0, maximum=1.0)

    def score(self, comparison, count, cx):
        roots = [np.sqrt(np.where(p < self.floor, 0.0, p.astype(float))) for p in (comparison.before, comparison.after)]
        return np.sqrt(((roots[0] - roots[1]) ** 2).sum(axis=1) / 2.0)


class MostExpressed(lacuna.Strategy):
    "Knocks out the most expressed genes of each cell, one at a time"

    id = "py-most-expressed"
    scope = "cell"
    genes = lacuna.integer(5, "How many genes of each cell", minimum=1)

    def propose(self, cells, proposal, cx):
        found = []
        for i in range(len(cells)):
            cx.check()
            # The greater first; of equals, the earlier gene.
            order = np.argsort(-cells.counts(i), kind="stable")[: self.genes]
            found.extend((i, [gene]) for gene in sorted(cells.assemblage(i)[order]))
        return found


class ShrunkenMean(lacuna.Model):
    "Mean shares where a gene is expressed, shrunken towards each other, restricted to the assemblage"

    id = "py-shrunken-mean"
    shrinkage = lacuna.number(0.1, "0 keeps the means, 1 makes them equal", minimum=0.0, maximum=1.0)

    def fit(self, training, cx):
        presence, profiles = training.cells.presence(), training.cells.profiles().astype(float)
        means = profiles.sum(axis=0) / np.maximum(presence.sum(axis=0), 1)
        cx.info("fitted", cells=len(training.cells))
        return Shares((1 - self.shrinkage) * means + self.shrinkage * means.mean())

    def load(self, data):
        return Shares(np.load(io.BytesIO(data), allow_pickle=False))


class Shares(lacuna.Fitted):
    "A share for each gene, of which a cell gets those of the genes that it expresses."

    def __init__(self, shares):
        self.shares = shares

    def predict(self, query, out, cx):
        for row in range(len(query.knockouts)):
            kept = np.setdiff1d(query.cells.assemblage(query.knockouts.cell[row]), query.knockouts.genes(row))
            out[row] = 0.0
            total = self.shares[kept].sum()
            if total > 0:
                out[row, kept] = self.shares[kept] / total

    def save(self):
        data = io.BytesIO()
        np.save(data, self.shares)
        return data.getvalue()

    def tables(self):
        return {"shares": {"share": pa.array(self.shares)}}


class Regulated(lacuna.Simulator):
    "Cells in which each regulator raises its targets"

    id = "py-regulated"
    cells = lacuna.integer(60, "Number of cells", minimum=1)
    genes = lacuna.integer(12, "Number of genes", minimum=2)
    regulators = lacuna.integer(3, "Number of regulators", minimum=1)

    def setup(self):
        if self.regulators >= self.genes:
            raise lacuna.WrongParameters(f"regulators: expected fewer than the {self.genes} genes, found {self.regulators}")

    def simulate(self, cx):
        rng = cx.rng()
        names = [f"g{j}" for j in range(self.genes)]
        strength = np.zeros((self.genes, self.genes))
        strength[: self.regulators, self.regulators :] = rng.uniform(0, 0.9, (self.regulators, self.genes - self.regulators))
        basal = rng.gamma(2.0, 1.0, (self.cells, self.genes)) * (rng.random((self.cells, self.genes)) < 0.8)
        truth = Regulation(basal, strength, names)
        cells = [f"c{i}" for i in range(self.cells)]
        network = {"regulator": [], "target": [], "weight": []}
        for i, j in zip(*np.nonzero(strength)):
            for key, value in zip(network, (names[i], names[j], strength[i, j])):
                network[key].append(value)
        return lacuna.Simulation(truth.levels(np.arange(self.cells), []), cells, names, truth, network=network)

    def load(self, data):
        saved = np.load(io.BytesIO(data), allow_pickle=False)
        return Regulation(saved["basal"], saved["strength"], saved["names"].tolist())


class Regulation(lacuna.Fitted):
    "The truth: what a gene does not get from a lost regulator, it lacks."

    def __init__(self, basal, strength, names):
        self.basal, self.strength, self.names = basal, strength, names

    def levels(self, cells, lost):
        basal = self.basal[cells].copy()
        basal[:, lost] = 0.0
        present = basal > 0
        return basal * np.prod(1 - 0.5 * self.strength[None] * ~present[:, :, None], axis=1)

    def predict(self, query, out, cx):
        column = {name: j for j, name in enumerate(self.names)}
        own = [column[name] for name in query.cells.gene_names]
        for row in range(len(query.knockouts)):
            cell = query.cells.ids[query.knockouts.cell[row]]
            lost = [own[gene] for gene in query.knockouts.genes(row)]
            levels = self.levels([cell], lost)[0, own]
            out[row] = levels / max(levels.sum(), 1e-300)

    def save(self):
        data = io.BytesIO()
        np.savez(data, basal=self.basal, strength=self.strength, names=np.array(self.names))
        return data.getvalue()


if __name__ == "__main__":
    lacuna.run(
        "python-plugin",
        [Hellinger, MostExpressed, ShrunkenMean, Regulated],
        description="One component of each kind, in Python",
    )
