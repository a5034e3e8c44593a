"""A simulator: cells, and the true answer to every knockout in them."""

import json

import lacuna_plugin as lacuna
import numpy as np

SWITCH = 0
"""The gene that is expressed in active cells only, and turns its program up there."""
EXPRESSED = 0.7
"""How likely a cell is to express a gene."""


class TwoState(lacuna.Simulator):
    "Cells in two states, with a gene that turns the program of one of them up"

    id = "two-state"
    scale = "counts"
    cells = lacuna.integer(300, "Number of cells", minimum=1, maximum=100000)
    genes = lacuna.integer(40, "Number of genes: the switch, its program, and others", minimum=2, maximum=5000)
    program = lacuna.number(0.25, "The share of the genes that the switch turns up", minimum=0.0, maximum=1.0)
    active = lacuna.number(0.5, "The share of active cells", minimum=0.0, maximum=1.0)
    fold = lacuna.number(8.0, "How many times higher the program is in an active cell", minimum=1.0, maximum=1000.0)

    def simulate(self, cx):
        keys = ("genes", "program", "active", "fold")
        world = World({key: getattr(self, key) for key in keys}, cx.seed)
        values = []
        for cell in range(self.cells):
            cx.check()
            values.append(world.levels(cell, {}))
        names, targets = world.names(), range(1, world.end_of_program() + 1)
        network = {
            "regulator": [names[SWITCH] for _ in targets],
            "target": [names[gene] for gene in targets],
            "weight": [self.fold for _ in targets],
        }
        return lacuna.Simulation(values, [f"cell-{i}" for i in range(self.cells)], names, world, network=network)

    def load(self, data):
        return World(**json.loads(data))


class World(lacuna.Fitted):
    """The truth. All of it follows from the parameters and the seed, so that nothing else has to be kept."""

    def __init__(self, parameters, seed):
        self.parameters, self.seed = parameters, seed

    def end_of_program(self):
        return round((self.parameters["genes"] - 1) * self.parameters["program"])

    def names(self):
        end, genes = self.end_of_program(), range(1, self.parameters["genes"])
        return ["switch"] + [f"program-{g}" if g <= end else f"other-{g}" for g in genes]

    def levels(self, cell, lost):
        """What a cell expresses when some genes have a level: 0 a knockout."""
        draw = np.random.default_rng([self.seed, cell])
        switch = float(draw.random() < self.parameters["active"]) * lost.get(SWITCH, 1.0)
        # Drawn for every gene, used or not: a knockout must not change the luck of the other genes.
        genes = self.parameters["genes"]
        expressed, levels = draw.random(genes) < EXPRESSED, draw.uniform(0.5, 2.0, genes)
        expressed[-1] = True  # so that every cell has a profile
        levels[1 : self.end_of_program() + 1] *= 1 + (self.parameters["fold"] - 1) * switch
        levels = np.where(expressed, levels, 0.0)
        levels[SWITCH] = switch
        for gene, level in lost.items():
            levels[gene] *= level if gene != SWITCH else 1.0
        return levels

    def predict(self, query, out, cx):
        number = {name: gene for gene, name in enumerate(self.names())}
        genes = [number[name] for name in query.cells.gene_names]
        for row in range(len(query.knockouts)):
            cx.check()
            pairs = zip(query.knockouts.genes(row), query.knockouts.levels(row))
            lost = {genes[gene]: float(level) for gene, level in pairs}
            # By its id: the cells asked about may be some of those that were made, in any order.
            out[row] = self.levels(int(query.cells.ids[query.knockouts.cell[row]]), lost)[genes]

    def save(self):
        return json.dumps({"parameters": self.parameters, "seed": self.seed}).encode()


if __name__ == "__main__":
    lacuna.run("my-plugin", [TwoState])
