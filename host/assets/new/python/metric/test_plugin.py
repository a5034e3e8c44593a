import unittest

import lacuna_plugin as lacuna
import numpy as np
from plugin import JensenShannon


class Test(unittest.TestCase):
    def score(self, before, after, **parameters):
        row = lacuna.Record(before=np.array(before, np.float32), after=np.array(after, np.float32))
        return JensenShannon(parameters).row(row)

    def test_equal_profiles_score_0_and_those_that_share_nothing_1(self):
        self.assertEqual(self.score([0.5, 0.5, 0], [0.5, 0.5, 0]), 0.0)
        self.assertAlmostEqual(self.score([1, 0], [0, 1]), 1.0)

    def test_a_power_out_of_range_is_refused(self):
        with self.assertRaises(lacuna.WrongParameters):
            JensenShannon({"power": 2.0})


if __name__ == "__main__":
    unittest.main()
