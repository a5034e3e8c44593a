import unittest

import lacuna_plugin as lacuna
import numpy as np
from plugin import ShrunkenMean


class Test(unittest.TestCase):
    def setUp(self):
        self.cells = lacuna.Cells.of([[1, 1, 2], [3, 0, 1]])
        self.model = ShrunkenMean({})
        self.fitted = self.model.fit(lacuna.Record(cells=self.cells, validation=None), lacuna.test_context())

    def predict(self, fitted, *rows):
        query = lacuna.Record(cells=self.cells, knockouts=lacuna.Knockouts.of(rows), samples=1)
        out = np.full((len(rows), 3), np.nan, np.float32)
        fitted.predict(query, out, lacuna.test_context())
        return out

    def test_shares_sum_to_1_and_lost_genes_are_silent(self):
        found = self.predict(self.fitted, (0, []), (0, [1]), (1, [0]))
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
        self.assertEqual([found[1, 1], found[2, 0], found[2, 1]], [0, 0, 0])

    def test_it_is_the_same_after_saving(self):
        again = self.model.load(self.fitted.save())
        np.testing.assert_array_equal(self.predict(again, (0, [2])), self.predict(self.fitted, (0, [2])))


if __name__ == "__main__":
    unittest.main()
