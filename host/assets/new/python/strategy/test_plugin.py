import unittest

import lacuna_plugin as lacuna
from plugin import TopGenes


class Test(unittest.TestCase):
    def test_the_most_expressed_genes_come_first(self):
        cells = lacuna.Cells.of([[1, 5, 0, 3], [0, 0, 2, 0]])
        found = TopGenes({"k": 2}).propose(cells, None, lacuna.test_context())
        self.assertEqual([(cell, list(genes)) for cell, genes in found], [(0, [1]), (0, [3]), (1, [2])])

    def test_others_are_drawn_from_the_rest(self):
        cells = lacuna.Cells.of([[9, 8, 7, 6, 5]])
        found = TopGenes({"k": 2, "others": 2}).propose(cells, None, lacuna.test_context())
        self.assertEqual(len({genes[0] for _, genes in found}), 4)


if __name__ == "__main__":
    unittest.main()
