"""Write plugins for Lacuna in Python: simulators, models, knockout strategies and metrics.

One file, to lie beside yours; it needs numpy and pyarrow. A whole plugin::

    import numpy as np
    import lacuna_plugin as lacuna

    class Hellinger(lacuna.Metric):
        "Hellinger distance between two profiles"
        id = "hellinger"
        floor = lacuna.number(0.0, "Shares below this one count as 0", minimum=0.0, maximum=1.0)
        high = 1.0

        def row(self, row):
            root = lambda p: np.sqrt(np.where(p < self.floor, 0.0, p.astype(float)))
            return np.sqrt(np.sum((root(row.before) - root(row.after)) ** 2) / 2.0)

    lacuna.run("my-metrics", [Hellinger])

A pipeline names it with ``[plugins.my-metrics] command = ["python3", "my_metrics.py"]``. It runs in a process of its
own and talks with the host over standard input and output (docs/worker-protocol.md); what it prints goes to the log.
Arrays are cells x genes, float32. Raise :class:`Failure` for an error that is the user's; any other exception is
reported with its place. Loop with ``cx.check()`` inside, so that Ctrl-C works.
"""

import io
import json
import os
import queue
import shutil
import struct
import sys
import threading
import time
import traceback

import numpy as np
import pyarrow as pa

VERSION = "0.1.0"
BORDER = [1, 2, 0]
MAGIC = b"LCNA"


class Failure(Exception):
    """An error for the user: one sentence that says what was expected, what was found, and where."""


class WrongParameters(Failure):
    """Parameters that do not fit together; raised while a component is made."""


class Cancelled(Exception):
    """The user asked to stop."""


# --- parameters --------------------------------------------------------------------------------------------------


class Parameter:
    """A parameter of a component: its JSON schema, its default, and its doc."""

    def __init__(self, schema, default, doc):
        self.schema = dict(schema, description=doc)
        if default is not None:
            self.schema["default"] = default
        self.default = default

    def check(self, name, value):
        """The value, or an error that says what was expected."""
        kind = self.schema["type"]
        types = {"boolean": bool, "integer": int, "number": (int, float), "string": str, "array": list}[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and kind != "boolean"):
            raise WrongParameters(f"{name}: expected {kind}, found {json.dumps(value)}")
        for limit, fits in LIMITS.items():
            if limit in self.schema and not fits(value, self.schema[limit]):
                raise WrongParameters(f"{name}: expected {limit} {self.schema[limit]}, found {value}")
        if "enum" in self.schema and value not in self.schema["enum"]:
            raise WrongParameters(f"{name}: expected one of {', '.join(self.schema['enum'])}, found {value}")
        return float(value) if kind == "number" else value


LIMITS = {
    "minimum": lambda x, limit: x >= limit,
    "maximum": lambda x, limit: x <= limit,
    "exclusiveMinimum": lambda x, limit: x > limit,
    "exclusiveMaximum": lambda x, limit: x < limit,
}


def _ranged(kind, default, doc, minimum, maximum, above, below):
    limits = {"minimum": minimum, "maximum": maximum, "exclusiveMinimum": above, "exclusiveMaximum": below}
    schema = {"type": kind}
    schema.update({name: limit for name, limit in limits.items() if limit is not None})
    return Parameter(schema, default, doc)


def number(default, doc, minimum=None, maximum=None, above=None, below=None):
    """A number, with a range."""
    return _ranged("number", default, doc, minimum, maximum, above, below)


def integer(default, doc, minimum=None, maximum=None, effort=False):
    """A whole number, with a range. `effort` marks one that the work of a fit is proportional to, such as optimiser
    steps: `lacuna plan` fits with few, to say how long many will take."""
    parameter = _ranged("integer", default, doc, minimum, maximum, None, None)
    if effort:
        parameter.schema["effort"] = True
    return parameter


def text(default, doc):
    """A text."""
    return Parameter({"type": "string"}, default, doc)


def boolean(default, doc):
    """True or false."""
    return Parameter({"type": "boolean"}, default, doc)


def choice(default, doc, options):
    """One of several words."""
    return Parameter({"type": "string", "enum": list(options)}, default, doc)


def texts(default, doc):
    """A list of texts."""
    return Parameter({"type": "array", "items": {"type": "string"}}, default, doc)


def file(doc):
    """The path of a file. The host resolves it, and takes its content into the step's key. None where not given."""
    return Parameter({"type": "string", "format": "path"}, None, doc)


# --- components --------------------------------------------------------------------------------------------------


class Component:
    """What every component has: ``id`` (a-z, 0-9 and -), a docstring of one sentence, and parameters."""

    id = None
    kind = None

    def __init__(self, parameters):
        known = self.parameters()
        for name in parameters:
            if name not in known:
                raise WrongParameters(f"unknown parameter `{name}`; there are: {', '.join(known) or 'none'}")
        for name, parameter in known.items():
            value = parameters.get(name)
            setattr(self, name, parameter.default if value is None else parameter.check(name, value))
        self.setup()

    def setup(self):
        """Checks here what one parameter's range cannot say. Cheap and without effects."""

    @classmethod
    def parameters(cls):
        found = {}
        for base in reversed(cls.__mro__):
            found.update({k: v for k, v in vars(base).items() if isinstance(v, Parameter)})
        return found

    @classmethod
    def manifest(cls):
        parameters = cls.parameters()
        schema = {"type": "object", "properties": {k: p.schema for k, p in parameters.items()}}
        schema["additionalProperties"] = False
        doc = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
        return {
            "kind": cls.kind,
            "id": cls.id,
            "doc": doc,
            "capabilities": {name: getattr(cls, name) for name in cls.capabilities},
            "parameters": schema,
        }


class Metric(Component):
    """Compares profiles. Define ``row``, or ``score`` for another shape. The defaults are those of an error."""

    kind = "metric"
    capabilities = (
        "shape needs low high direction vectors signed scale_free symmetric identity chance formula source".split()
    )
    shape = "row"
    """``row``, ``population`` or ``panel``: what is scored at once."""
    needs = ["before", "after"]
    low, high = 0.0, None
    direction = "lower"
    """``lower`` (an error), ``higher`` (an agreement) or ``none``."""
    vectors = False
    """Whether it compares any two vectors, not profiles only."""
    signed = False
    """Whether numbers below 0 mean something to it, as those of effects have."""
    scale_free = False
    """Whether all of ``after`` may be multiplied by the same positive number, as gene scores."""
    symmetric = True
    identity = 0.0
    """The score when before equals after."""
    chance = None
    formula = None
    source = ""

    def row(self, row):
        """The score of one row: ``row.before``, ``row.after``, ``row.observed`` (genes), ``row.genes``. NaN: none."""
        raise Failure(f"{self.id} does not score single rows")

    def score(self, comparison, count, cx):
        """All scores."""
        scores = []
        for i in range(count):
            cx.check()
            scores.append(self.row(comparison.row(i)))
        return scores


class Strategy(Component):
    """Proposes knockouts. Define ``propose``."""

    kind = "strategy"
    capabilities = ("scope", "adaptive")
    scope = "population"
    """``cell`` when proposals for a cell depend on that cell alone: the host may then ask about blocks of cells."""
    adaptive = False
    """Whether later rounds depend on the impacts of earlier ones. If not, there is one round."""

    def propose(self, cells, proposal, cx):
        """A list of (cell, genes) or (cell, genes, levels); rows of the cells, columns of genes that it expresses.

        ``proposal.round``, ``proposal.earlier`` and ``proposal.impacts`` tell an adaptive strategy what came before.
        """
        raise NotImplementedError


class Model(Component):
    """Learns to predict the response. Define ``fit`` and ``load``, which give a :class:`Fitted`."""

    kind = "model"
    capabilities = "answers scale levels needs_labels baseline sees_expression varies refines fused source".split()
    answers = "profiles"
    """``profiles``, ``means``, ``samples`` or ``gene-scores``."""
    scale = "closed"
    """``closed`` (shares that sum to 1), ``counts`` or ``log1p-cp10k``."""
    levels = "knockout"
    """``any`` for a model that understands knock-downs and over-expression."""
    needs_labels = False
    baseline = False
    sees_expression = False
    """Whether an answer uses the cell's own expression, not only its assemblage."""
    varies = False
    """Whether the same training with the same seed may give another model."""
    refines = False
    """Whether it goes on from a fitted model: define ``refine`` then."""
    fused = []
    source = ""

    def fit(self, training, cx):
        """Learns from ``training.cells``; ``training.validation`` may be None, as the others."""
        raise NotImplementedError

    def refine(self, fitted, training, cx):
        """Learns from ``training`` as ``fit`` does, going on from a fitted model, whose genes are those of the cells."""
        raise Failure("it does not go on from a fitted model")

    def devices(self):
        """Where it can compute on this machine, and why not elsewhere: lines that ``lacuna plugin inspect`` shows."""
        return []

    def load(self, data):
        """The fitted model from the bytes that its ``save`` gave."""
        raise NotImplementedError


class Fitted:
    """A fitted model, or a truth."""

    def predict(self, query, out, cx):
        """Writes one row of ``out`` (knockouts x genes) for each of ``query.knockouts`` in ``query.cells``.

        A knockout without genes asks for the cell as it is. Where ``query.knockouts.cell`` is None, a row means the
        whole population. ``query.spread``, if it is not None, may get the standard deviation of each value.
        """
        raise NotImplementedError

    def save(self):
        """The model as bytes."""
        raise NotImplementedError

    def screen(self, screen, cx):
        """The impacts without writing profiles, or None where there is no such way for ``screen.formula``."""
        return None

    def tables(self):
        """What the model tells about itself: tables by name, each a dict of columns.

        A table ``chosen`` (``parameter``, a name, and ``value``, JSON text) has the parameters that the fit chose
        where they were left out; further fits, of an ensemble and to halves of the cells, are given them.
        """
        return {}


class Simulator(Component):
    """Makes cells with known truth. Define ``simulate`` and ``load``."""

    kind = "simulator"
    capabilities = ("scale",)
    scale = "closed"

    def simulate(self, cx):
        """A :class:`Simulation`."""
        raise NotImplementedError

    def load(self, data):
        """The truth from the bytes that its ``save`` gave."""
        raise NotImplementedError


class Simulation:
    """What a simulator made: values (cells x genes), names, a truth (a :class:`Fitted`), and annotations."""

    def __init__(self, values, cell_names, gene_names, truth, obs=None, var=None, network=None):
        self.values = np.asarray(values, dtype=np.float32)
        self.cell_names, self.gene_names = list(cell_names), list(gene_names)
        self.truth, self.obs, self.var, self.network = truth, obs or {}, var or {}, network


# --- what a call hands over --------------------------------------------------------------------------------------


class Cells:
    """Cells x genes, sparse. The genes of a row are the cell's assemblage; values are as read."""

    def __init__(self, cells, genes):
        self._cells, self._genes = cells, genes
        self.names = cells["name"].to_pylist()
        self.gene_names = genes["name"].to_pylist()
        self.ids = cells["id"].to_numpy()
        self.library = cells["library"].to_numpy()
        lists = cells["genes"]
        self.offsets = np.asarray(lists.offsets, dtype=np.int64)
        self.indices = np.asarray(lists.values, dtype=np.uint32)
        self.values = np.asarray(cells["values"].values, dtype=np.float32)

    @classmethod
    def of(cls, values, gene_names=None):
        """Cells with these values, for unit tests."""
        values = np.asarray(values, dtype=np.float32)
        names = gene_names or [f"g{j}" for j in range(values.shape[1])]
        made = Simulation(values, [f"c{i}" for i in range(len(values))], names, None)
        return cls(*_cells_tables(made))

    def __len__(self):
        return len(self.names)

    @property
    def n_genes(self):
        return len(self.gene_names)

    def _range(self, cell):
        return slice(self.offsets[cell], self.offsets[cell + 1])

    def assemblage(self, cell):
        """The columns of the genes that a cell expresses, ascending."""
        return self.indices[self._range(cell)]

    def counts(self, cell):
        """The values of the expressed genes, in the order of ``assemblage``."""
        return self.values[self._range(cell)]

    def profile(self, cell):
        """The cell's profile, shape (genes): shares that sum to 1."""
        out = np.zeros(self.n_genes, dtype=np.float32)
        values = self.counts(cell).astype(np.float64)
        out[self.assemblage(cell)] = values / values.sum() if len(values) else values
        return out

    def profiles(self):
        """All profiles, shape (cells, genes)."""
        return np.stack([self.profile(i) for i in range(len(self))]) if len(self) else np.zeros((0, self.n_genes), np.float32)

    def presence(self):
        """Which cell expresses which gene, shape (cells, genes)."""
        out = np.zeros((len(self), self.n_genes), dtype=bool)
        for i in range(len(self)):
            out[i, self.assemblage(i)] = True
        return out

    def obs(self, name):
        """An annotation of the cells as an Arrow array; None where there is none."""
        return self._column(self._cells, f"obs:{name}")

    def var(self, name):
        """An annotation of the genes as an Arrow array; None where there is none."""
        return self._column(self._genes, f"var:{name}")

    @staticmethod
    def _column(table, name):
        return table[name] if name in table.schema.names else None


class Knockouts:
    """Knockouts, one row each. ``cell`` is None where a row means the whole population."""

    def __init__(self, table):
        self.cell = table["cell"].to_numpy() if "cell" in table.schema.names else None
        genes = table["genes"]
        self.offsets = np.asarray(genes.offsets, dtype=np.int64)
        self._genes = np.asarray(genes.values, dtype=np.uint32)
        self._levels = np.asarray(table["levels"].values, dtype=np.float32)

    @classmethod
    def of(cls, rows):
        """Knockouts (cell, genes), for unit tests."""
        return cls(_knockouts_table(rows))

    def __len__(self):
        return len(self.offsets) - 1

    def genes(self, i):
        """The columns of the genes of row ``i``, ascending; none means the cell as it is."""
        return self._genes[self.offsets[i] : self.offsets[i + 1]]

    def levels(self, i):
        """The level of each of these genes: 0 is a knockout, 0.3 a knock-down to 30 %, 2 an over-expression."""
        return self._levels[self.offsets[i] : self.offsets[i + 1]]


class Record:
    """Named parts."""

    def __init__(self, **parts):
        self.__dict__.update(parts)


class Comparison(Record):
    """What a metric compares: arrays of rows x genes; a part that is not there is None."""

    def row(self, i):
        pick = lambda part: None if part is None else part[i]
        genes = None if self.knockouts is None else self.knockouts.genes(i)
        return Record(before=pick(self.before), after=pick(self.after), observed=pick(self.observed), genes=genes)


class Context:
    """The host's services during one call."""

    def __init__(self, host, head):
        self._host, self._call, self._last = host, head.get("call", 0), 0.0
        self.seed, self.threads = head.get("seed", 0), head.get("threads", 1)
        self._level = head.get("log", 3)
        self._scratch = head.get("scratch")

    def rng(self, n=0):
        """Random stream ``n`` of the step's seed, a numpy Generator. Give each cell its own, by its id."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, n])))

    def progress(self, done, total=0, label=""):
        """Says how far the work is; a total of 0 means unknown."""
        now = time.monotonic()
        if now - self._last >= 0.05:
            self._last = now
            self._host.send({"re": self._call, "progress": [int(done), int(total), str(label)]})

    def cancelled(self):
        """Whether the user asked to stop."""
        return self._host.cancelled.is_set()

    def check(self):
        """Ends the call when the user asked to stop. Call it inside long loops."""
        if self.cancelled():
            raise Cancelled()

    @property
    def scratch(self):
        """A folder for temporary files. In a fit it stays until the step is finished: a run that was killed finds it again."""
        return self._scratch or os.environ["LACUNA_SCRATCH"]

    def log(self, level, message, **fields):
        """Logs: 1 error, 2 warning (kept in the results), 3 info, 4 debug."""
        if level <= self._level:
            self._host.send({"re": self._call, "log": [level, "python", str(message), json.dumps(fields)]})

    def warn(self, message, **fields):
        self.log(2, message, **fields)

    def info(self, message, **fields):
        self.log(3, message, **fields)


class _Nobody:
    """A host for unit tests: what is said to it is lost."""

    cancelled = threading.Event()

    def send(self, head, parts=()):
        pass


def test_context(seed=0):
    """A context for unit tests."""
    return Context(_Nobody(), {"seed": seed})


# --- the protocol ------------------------------------------------------------------------------------------------


def _to_bytes(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return sink.getvalue().to_pybytes()


def _to_table(data):
    with pa.ipc.open_stream(data) as reader:
        batches = list(reader)
        if len(batches) == 1:
            return batches[0]
        combined = pa.Table.from_batches(batches, reader.schema).combine_chunks().to_batches()
        return combined[0] if combined else pa.RecordBatch.from_pylist([], schema=reader.schema)


def _batch(columns):
    arrays = {name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in columns.items()}
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _lists(offsets, values, kind):
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values, kind))


def _cells_tables(made):
    stored = (made.values > 0) | ~np.isfinite(made.values)
    offsets = np.concatenate([[0], np.cumsum(stored.sum(axis=1))]).astype(np.int64)
    columns = {
        "name": pa.array(made.cell_names, pa.string()),
        "id": pa.array(np.arange(len(made.values), dtype=np.uint64)),
        "library": pa.array(made.values.sum(axis=1, dtype=np.float64)),
        "genes": _lists(offsets, np.nonzero(stored)[1].astype(np.uint32), pa.uint32()),
        "values": _lists(offsets, made.values[stored], pa.float32()),
    }
    columns.update({f"obs:{name}": column for name, column in made.obs.items()})
    var = {"name": pa.array(made.gene_names, pa.string())}
    var.update({f"var:{name}": column for name, column in made.var.items()})
    return _batch(columns), _batch(var)


def _knockouts_table(rows):
    cell, offsets, genes, levels = [], [0], [], []
    for row in rows:
        pairs = sorted(zip(row[1], row[2] if len(row) > 2 else [0.0] * len(row[1])))
        cell.append(int(row[0]))
        genes.extend(int(gene) for gene, _ in pairs)
        levels.extend(float(level) for _, level in pairs)
        offsets.append(len(genes))
    return _batch(
        {
            "cell": pa.array(cell, pa.uint64()),
            "genes": _lists(offsets, genes, pa.uint32()),
            "levels": _lists(offsets, levels, pa.float32()),
        }
    )


def _matrix(told):
    if told is None:
        return None
    rows, cols = told["rows"], told["cols"]
    repeated = told.get("repeated", False)
    count = cols if repeated else rows * cols
    values = np.fromfile(told["file"], dtype=np.float32, count=count)
    return np.broadcast_to(values, (rows, cols)) if repeated else values.reshape(rows, cols)


def _write(told, values):
    if values.size == 0:
        return
    with open(told["file"], "r+b", buffering=0) as out:
        view = memoryview(np.ascontiguousarray(values, dtype=np.float32)).cast("B")
        while view:
            view = view[out.write(view) :]


def _exactly(stream, length):
    """So many bytes. Memory grows with those that arrive: a wrong length costs none."""
    found = io.BytesIO()
    while found.tell() < length:
        piece = stream.read(min(length - found.tell(), 1 << 20))
        if not piece:
            raise EOFError
        found.write(piece)
    return found.getvalue()


class _Host:
    """The pipes to the host. A thread reads, so that a plugin at work hears that it is to stop."""

    def __init__(self):
        self._out = os.fdopen(os.dup(1), "wb")
        self._in = os.fdopen(os.dup(0), "rb")
        # What the plugin, or a process that it starts, prints goes to the log, and they read nothing.
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._lock = threading.Lock()
        self.cancelled = threading.Event()
        self.calls = queue.Queue()

    def send(self, head, parts=()):
        head = dict(head, parts=[[name, len(data)] for name, data in parts])
        text = json.dumps(head).encode()
        with self._lock:
            self._out.write(MAGIC + struct.pack("<I", len(text)) + text)
            for _, data in parts:
                self._out.write(data)
            self._out.flush()

    def listen(self):
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        try:
            while True:
                head, parts = self._receive()
                if head.get("do") == "cancel":
                    self.cancelled.set()
                else:
                    self.calls.put((head, parts))
        except EOFError:
            # The host has gone, or needs this no more.
            shutil.rmtree(os.environ.get("LACUNA_SCRATCH", ""), ignore_errors=True)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a plugin that hears nothing more would wait for ever
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _receive(self):
        (length,) = struct.unpack("<I", _exactly(self._in, 8)[4:])
        head = json.loads(_exactly(self._in, length))
        return head, {name: _exactly(self._in, length) for name, length in head.get("parts", [])}


class _Plugin:
    def __init__(self, components):
        self.components = {(c.kind, c.id): c for c in components}
        self.objects = {}
        self.host = _Host()

    def answer(self, head, parts):
        cx, call = Context(self.host, head), head.get("call")
        try:
            told, out = getattr(self, "do_" + head["do"])(head, parts, cx)
            if call is not None:
                self.host.send(dict(told, re=call), out)
        except Cancelled:
            self.refuse(call, 2, "cancelled")
        except WrongParameters as e:
            self.refuse(call, 1, str(e))
        except Failure as e:
            self.refuse(call, 0, str(e))
        except MemoryError:
            raise
        except BaseException as e:  # noqa: BLE001 - whatever it is, the host is told
            frames = traceback.extract_tb(e.__traceback__)
            own = [f for f in frames if f.filename != __file__] or frames
            place = f"{own[-1].filename}:{own[-1].lineno}"
            self.refuse(call, 3, f"{type(e).__name__}: {e}", place)

    def refuse(self, call, kind, message, detail=""):
        if call is not None:
            self.host.send({"re": call, "error": {"kind": kind, "message": message, "detail": detail}})

    def do_make(self, head, parts, cx):
        component = self.components.get((head["kind"], head["component"]))
        if component is None:
            raise Failure(f"there is no {head['kind']} `{head['component']}`")
        self.objects[head["object"]] = component(head["parameters"] or {})
        return {}, []

    def do_drop(self, head, parts, cx):
        self.objects.pop(head["object"], None)
        return {}, []

    def do_simulate(self, head, parts, cx):
        made = self.objects[head["object"]].simulate(cx)
        cells, genes = _cells_tables(made)
        out = [("cells", _to_bytes(cells)), ("genes", _to_bytes(genes))]
        if made.network is not None:
            out.append(("network", _to_bytes(_batch(made.network))))
        self.objects[head["truth"]] = made.truth
        return {}, out

    def _cells(self, parts, prefix=""):
        return Cells(_to_table(parts[prefix + "cells"]), _to_table(parts[prefix + "genes"]))

    def _knockouts(self, parts, name):
        return Knockouts(_to_table(parts[name])) if name in parts else None

    def _training(self, parts):
        return Record(
            cells=self._cells(parts),
            validation=self._cells(parts, "validation.") if "validation.cells" in parts else None,
            perturbations=self._knockouts(parts, "perturbations"),
            validation_perturbations=self._knockouts(parts, "validation.perturbations"),
            network=_to_table(parts["network"]) if "network" in parts else None,
        )

    def do_fit(self, head, parts, cx):
        self.objects[head["fitted"]] = self.objects[head["object"]].fit(self._training(parts), cx)
        return {}, []

    def do_refine(self, head, parts, cx):
        model = self.objects[head["object"]]
        self.objects[head["fitted"]] = model.refine(self._loaded(model, parts), self._training(parts), cx)
        return {}, []

    def do_devices(self, head, parts, cx):
        return {"devices": list(self.objects[head["object"]].devices())}, []

    def do_load(self, head, parts, cx):
        self.objects[head["fitted"]] = self._loaded(self.objects[head["object"]], parts)
        return {}, []

    def _loaded(self, model, parts):
        try:
            return model.load(parts["model"])
        except Exception as e:
            raise Failure(f"these {len(parts['model'])} bytes are no model that it has saved: {e}") from e

    def do_predict(self, head, parts, cx):
        told = head["values"]
        out = np.full((told["rows"], told["cols"]), np.nan, dtype=np.float32)
        spread = np.full_like(out, np.nan) if head.get("spread") else None
        query = Record(
            cells=self._cells(parts),
            knockouts=self._knockouts(parts, "knockouts"),
            samples=head.get("samples", 1),
            spread=spread,
        )
        self.objects[head["object"]].predict(query, out, cx)
        _write(told, out)
        if spread is not None:
            _write(head["spread"], spread)
        return {"written": len(out)}, []

    def do_screen(self, head, parts, cx):
        screen = Record(
            cells=self._cells(parts),
            knockouts=self._knockouts(parts, "knockouts"),
            formula=head["formula"],
            against=head["against"],
            anchor=head.get("anchor"),
        )
        impacts = self.objects[head["object"]].screen(screen, cx)
        if impacts is None:
            return {}, []
        return {}, [("impacts", _to_bytes(_batch({"impact": pa.array(np.asarray(impacts, np.float32))})))]

    def do_save(self, head, parts, cx):
        return {}, [("model", bytes(self.objects[head["object"]].save()))]

    def do_tables(self, head, parts, cx):
        tables = self.objects[head["object"]].tables()
        return {}, [(name, _to_bytes(_batch(columns))) for name, columns in tables.items()]

    def do_propose(self, head, parts, cx):
        proposal = Record(
            round=head["round"],
            earlier=self._knockouts(parts, "earlier"),
            impacts=_to_table(parts["impacts"])["impact"].to_numpy(),
        )
        found = self.objects[head["object"]].propose(self._cells(parts), proposal, cx)
        return {}, [("knockouts", _to_bytes(_knockouts_table(found)))]

    def do_score(self, head, parts, cx):
        comparison = Comparison(
            before=_matrix(head.get("before")),
            after=_matrix(head.get("after")),
            observed=_matrix(head.get("observed")),
            controls=_matrix(head.get("controls")),
            knockouts=self._knockouts(parts, "knockouts"),
            panel=self._knockouts(parts, "panel"),
        )
        scores = self.objects[head["object"]].score(comparison, head["scores"], cx)
        return {}, [("scores", _to_bytes(_batch({"score": pa.array(np.asarray(scores, np.float64))})))]


def run(name, components, version="0.1.0", description=""):
    """Says what the plugin is, and answers the host's calls until it is needed no more."""
    plugin = _Plugin(components)
    manifest = {
        "name": name,
        "version": version,
        "description": description,
        "sdk": f"{VERSION} (Python)",
        "abi": BORDER,
        "components": [component.manifest() for component in components],
    }
    plugin.host.send({"manifest": manifest})
    plugin.host.listen()
    while True:
        plugin.answer(*plugin.host.calls.get())
