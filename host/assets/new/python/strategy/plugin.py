"""A strategy: which genes are worth a knockout in which cell."""

import lacuna_plugin as lacuna
import numpy as np


class TopGenes(lacuna.Strategy):
    "Knocks out the k genes that each cell expresses most, one at a time"

    id = "top-genes"
    # What is proposed for a cell depends on that cell alone: the host may ask for a few cells at a time.
    scope = "cell"
    k = lacuna.integer(10, "How many genes of each cell; all that it expresses if they are fewer", minimum=1)
    others = lacuna.integer(0, "How many of its other genes too, drawn at random, to compare with", minimum=0)

    def propose(self, cells, proposal, cx):
        found = []
        for cell in range(len(cells)):
            cx.check()
            found.extend((cell, [gene]) for gene in self.choose(cells, cell, cx))
        return found

    def choose(self, cells, cell, cx):
        # The strongest first; of equal ones the first.
        order = cells.assemblage(cell)[np.argsort(-cells.counts(cell), kind="stable")]
        top, rest = order[: self.k], order[self.k :]
        # A stream for each cell, by its number in the file: the draw does not depend on which cells are asked for
        # together.
        drawn = cx.rng(int(cells.ids[cell])).choice(rest, min(self.others, len(rest)), replace=False)
        return np.concatenate([top, drawn])


if __name__ == "__main__":
    lacuna.run("my-plugin", [TopGenes])
