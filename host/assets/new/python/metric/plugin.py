"""A metric: how far apart two profiles are."""

import lacuna_plugin as lacuna
import numpy as np


class JensenShannon(lacuna.Metric):
    "Jensen-Shannon distance between two profiles, in bits (Endres and Schindelin 2003)"

    id = "jensen-shannon-bits"
    high = 1.0
    power = lacuna.number(0.5, "0.5 is the distance, 1 the divergence itself", minimum=0.1, maximum=1.0)

    def row(self, row):
        p, q = row.before.astype(float), row.after.astype(float)
        bits = [np.sum(x[x > 0] * np.log2(2 * x[x > 0] / (p + q)[x > 0])) for x in (p, q)]
        return np.clip(sum(bits) / 2, 0.0, 1.0) ** self.power


if __name__ == "__main__":
    lacuna.run("my-plugin", [JensenShannon])
