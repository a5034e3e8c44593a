import unittest

import lacuna_plugin as lacuna
import numpy as np
from plugin import SWITCH, TwoState


class Test(unittest.TestCase):
    def setUp(self):
        self.made = TwoState({"cells": 50, "genes": 10}).simulate(lacuna.test_context())

    def test_some_cells_are_active_and_their_program_is_up(self):
        active = self.made.values[:, SWITCH] > 0
        self.assertTrue(5 < active.sum() < 45)
        program = self.made.values[:, 1:3].mean(axis=1)
        self.assertGreater(program[active].mean(), 3 * program[~active].mean())

    def test_without_the_switch_a_cell_rests_and_other_genes_stay(self):
        cell = int(np.argmax(self.made.values[:, SWITCH]))
        before, after = self.made.truth.levels(cell, {}), self.made.truth.levels(cell, {SWITCH: 0.0})
        self.assertEqual(after[SWITCH], 0)
        np.testing.assert_array_equal(before[3:], after[3:])


if __name__ == "__main__":
    unittest.main()
