"""Models whose fit takes hours: one that says how far it is, one that does not, and one that declares its effort."""

import time

import lacuna_plugin as lacuna
import numpy as np

HOURS = 3 * 3600


class Uniform(lacuna.Fitted):
    def predict(self, query, out, cx):
        for row, cell in enumerate(query.knockouts.cell):
            kept = np.setdiff1d(query.cells.assemblage(cell), query.knockouts.genes(row))
            out[row] = 0.0
            out[row, kept] = 1.0 / max(len(kept), 1)

    def save(self):
        return b"uniform"


class Slow(lacuna.Model):
    def load(self, data):
        return Uniform()

    def work(self, seconds, says, cx):
        begin = time.monotonic()
        while (done := time.monotonic() - begin) < seconds:
            cx.check()
            if says:
                cx.progress(int(1000 * done), int(1000 * seconds), "work")
            time.sleep(0.01)
        return Uniform()


class Telling(Slow):
    "Takes hours, and says how far it is"

    id = "telling"

    def fit(self, training, cx):
        return self.work(HOURS, True, cx)


class Silent(Slow):
    "Takes hours, and says nothing"

    id = "silent"

    def fit(self, training, cx):
        return self.work(HOURS, False, cx)


class Declared(Slow):
    "Takes a tenth of a second for each round"

    id = "declared"
    rounds = lacuna.integer(HOURS * 10, "Rounds", minimum=1, effort=True)

    def fit(self, training, cx):
        return self.work(0.1 * self.rounds, False, cx)


if __name__ == "__main__":
    lacuna.run("slow", [Telling, Silent, Declared])
