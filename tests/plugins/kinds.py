"""Models and a metric of the less common kinds: learned from labels, for populations, gene scores, samples, panels."""

import io

import lacuna_plugin as lacuna
import numpy as np


def log_cp10k(cells):
    return np.log1p(1e4 * cells.profiles().astype(float))


class Saved(lacuna.Model):
    def load(self, data):
        return self.fitted(np.load(io.BytesIO(data), allow_pickle=False)["a"])


class Array(lacuna.Fitted):
    def __init__(self, array):
        self.array = array

    def save(self):
        data = io.BytesIO()
        np.savez(data, a=self.array)
        return data.getvalue()


class Shifts(Array):
    "For each gene: the change of all genes' means when it is perturbed, NaN where that was not measured."

    def predict(self, query, out, cx):
        mean = log_cp10k(query.cells).mean(axis=0)
        for i in range(len(query.knockouts)):
            assert query.knockouts.cell is None
            genes = query.knockouts.genes(i)
            out[i] = np.maximum(mean + np.nan_to_num(self.array[genes]).sum(axis=0), 0)
            out[i, genes] = 0
            if query.spread is not None:
                query.spread[i] = 0.01 if len(genes) else 0.0


class Measured(Saved):
    "The measured change of each perturbation; sums of them for several genes"

    id = "py-measured"
    answers = "means"
    scale = "log1p-cp10k"
    needs_labels = True
    fitted = Shifts

    def fit(self, training, cx):
        logs, labels = log_cp10k(training.cells), training.perturbations
        if labels is None:
            raise lacuna.Failure("the perturbations of the training cells are not known")
        genes = [tuple(labels.genes(i)) for i in range(len(labels))]
        of = lambda wanted: logs[[g == wanted for g in genes]].mean(axis=0)
        shifts = np.full((logs.shape[1], logs.shape[1]), np.nan)
        for single in {g for g in genes if len(g) == 1}:
            shifts[single[0]] = of(single) - of(())
        return Shifts(shifts)


class Scores(Array):
    def predict(self, query, out, cx):
        for i in range(len(query.knockouts)):
            out[i] = -self.array[query.knockouts.genes(i)].sum(axis=0)


class Coupled(Saved):
    "Genes that vary together fall together: minus the correlation with the lost gene"

    id = "py-coupled"
    answers = "gene-scores"
    fitted = Scores

    def fit(self, training, cx):
        with np.errstate(invalid="ignore", divide="ignore"):
            return Scores(np.nan_to_num(np.corrcoef(log_cp10k(training.cells).T)))


class Ranks(Array):
    "Shares by the place among the genes that are left: what is lost moves all later genes."

    def predict(self, query, out, cx):
        for i in range(len(query.knockouts)):
            kept = np.setdiff1d(query.cells.assemblage(query.knockouts.cell[i]), query.knockouts.genes(i))
            out[i] = 0
            out[i, kept] = np.arange(1, len(kept) + 1) / max(len(kept) * (len(kept) + 1) / 2, 1)


class Ranked(Saved):
    "Shares by the place among the expressed genes"

    id = "py-ranked"
    fitted = Ranks

    def fit(self, training, cx):
        return Ranks(np.zeros(1))


class Sampled(Coupled):
    "Says that it answers with samples"

    id = "py-sampled"
    answers = "samples"


class Nearest(lacuna.Metric):
    "Whether the own truth is the nearest of all, by correlation"

    id = "py-nearest"
    shape = "panel"
    needs = ["before", "after", "panel"]
    direction = "higher"
    high = 1.0
    scale_free = True
    symmetric = False
    identity = None

    def score(self, comparison, count, cx):
        if count == 0:
            return []
        targets = np.unique([gene for i in range(count) for gene in comparison.panel.genes(i)])
        keep = np.setdiff1d(np.arange(comparison.before.shape[1]), targets)
        with np.errstate(invalid="ignore", divide="ignore"):
            near = np.corrcoef(comparison.after[:, keep], comparison.before[:, keep])[:count, count:]
        found = np.nan_to_num(near, nan=-2.0).argmax(axis=1) == np.arange(count)
        return np.where(np.isnan(near).any(axis=1), np.nan, found)


if __name__ == "__main__":
    lacuna.run("kinds", [Measured, Coupled, Ranked, Sampled, Nearest])
