"""A model: what a cell's profile is, given the genes that it expresses."""

import io

import lacuna_plugin as lacuna
import numpy as np
import pyarrow as pa


class ShrunkenMean(lacuna.Model):
    "Each gene's mean share where it is expressed, shrunken towards the average gene's"

    id = "shrunken-mean"
    strength = lacuna.number(5.0, "How many cells the average gene counts for", minimum=0.001, maximum=1e6)

    def fit(self, training, cx):
        counts = training.cells.presence().sum(axis=0)
        if counts.sum() == 0:
            raise lacuna.Failure("expected training cells that express genes, found none")
        sums = training.cells.profiles().astype(float).sum(axis=0)
        average = sums.sum() / counts.sum()
        cx.info("fitted", average=average)
        return Means((sums + self.strength * average) / (counts + self.strength))

    def load(self, data):
        return Means(np.load(io.BytesIO(data), allow_pickle=False))


class Means(lacuna.Fitted):
    """A mean for each gene. It relates no gene to another: what is left after a knockout keeps its proportions."""

    def __init__(self, means):
        self.means = means

    def predict(self, query, out, cx):
        if query.cells.n_genes != len(self.means):
            raise lacuna.Failure(f"expected the {len(self.means)} genes of the fit, found {query.cells.n_genes}")
        out[:] = 0.0
        for row in range(len(query.knockouts)):
            cx.check()
            kept = np.setdiff1d(query.cells.assemblage(query.knockouts.cell[row]), query.knockouts.genes(row))
            out[row, kept] = self.means[kept] / self.means[kept].sum()

    def save(self):
        data = io.BytesIO()
        np.save(data, self.means)
        return data.getvalue()

    def tables(self):
        return {"means": {"mean": pa.array(self.means)}}


if __name__ == "__main__":
    lacuna.run("my-plugin", [ShrunkenMean])
