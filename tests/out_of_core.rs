//! Cells that stay in their file: the same bytes as those of held ones, in memory that does not grow with them.

use crate::runs::{WHOLE, assert_same, run_into, run_of, wait_for};
use crate::support::{fail, lacuna, project, run_python, succeed, text};
use arrow_array::DictionaryArray;
use arrow_array::types::Int8Type;
use lacuna::data::{Cells, Csr, Frame};
use lacuna::formats::h5ad;
use serde_json::Value as Json;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Every step that goes through cells in blocks, on the way to screens with and without groups.
const BLOCKS: &str = r#"
format = 1
name = "blocks"
seed = 3

[steps.cells]
use = "read"
path = "cells.h5ad"

[steps.chosen]
use = "prepare"
from = "cells"
where = { n_genes = { min = 12 } }
not = { cell_type = "type 3" }
genes = { min_cells = 0.05, highly_variable = 30, always = ["g3", "g5", "g7", "g8"] }
close = "library"

[steps.few]
use = "prepare"
from = "chosen"
cells = { at_most = 200 }
close = "library"

[steps.parts]
use = "split"
from = "chosen"
test = 0.5
stratify = "cell_type"

[steps.model]
use = "mlp"
train = "few"
with = { steps = 40 }

[steps.screen]
use = "screen"
model = "model"
cells = "parts.test"
knockouts = { use = "genes", with = { genes = ["g3", "g5", "g7", "g8"] } }
impact = ["bray-curtis", "spearman"]
groups = "cell_type"
top_per_cell = 2

[steps.equal]
use = "prepare"
from = "chosen"
downsample = 70
close = "library"

[steps.equally-deep]
use = "screen"
model = "model"
cells = "equal"
knockouts = { use = "genes", with = { genes = ["g3", "g5", "g7", "g8"] } }
impact = { use = "bray-curtis", against = "observed-null" }
anchor = true

[steps.by-type]
use = "screen"
by = "cell_type"
model = "model"
cells = "chosen"
knockouts = "each-expressed-gene"
impact = { use = "bray-curtis", against = "observed-null" }
anchor = true
effects = 12
"#;

/// Ten parts of cells.
const PARTS: &str = r#"
format = 1
name = "parts"

[steps.cells]
use = "read"
path = "cells.h5ad"

[steps.sample]
use = "prepare"
from = "cells"
genes = { always = [GENES] }
cells = { at_most = 300 }

[steps.model]
use = "masked-mean"
train = "sample"

[steps.screen]
use = "screen"
model = "model"
cells = "cells"
knockouts = "each-expressed-gene"
impact = { use = "bray-curtis", against = "predicted" }
effects = 3
h5ad = false
"#;

/// Counts of a generator of pseudo-random numbers: cells × genes, a share of which is expressed.
pub fn write_cells(project: &TempDir, cells: usize, genes: usize, share: f64) {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let mut x = Csr::empty(genes);
    for _ in 0..cells {
        let row: Vec<f32> = (0..genes)
            .map(|j| {
                if next() < share * (0.5 + j as f64 / genes as f64) {
                    (1.0 + 9.0 * next()).floor()
                } else {
                    0.0
                }
            })
            .map(|v| v as f32)
            .collect();
        x.push_row((0..).zip(row));
    }
    let names = |what: &str, n: usize| (0..n).map(|i| format!("{what}{i}")).collect();
    let mut obs = Frame::of_names(names("c", cells));
    let types: DictionaryArray<Int8Type> =
        (0..cells).map(|i| Some(["type 0", "type 1", "type 2", "type 3"][i * 7 % 4])).collect();
    obs.push("cell_type", Arc::new(types));
    let cells = Cells::new(x, obs, Frame::of_names(names("g", genes)));
    h5ad::write(&project.path().join("cells.h5ad"), &cells, &[]).unwrap();
}

/// Whether a run says that it left the cells in their file.
fn stays(project: &TempDir, memory: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run_of(project.path(), dir.path());
    let output = run.args(["-v", "--memory", memory]).output().unwrap();
    text(&output.stderr).contains("is read in blocks of rows")
}

#[test]
fn stored_and_held_cells_give_the_same_bytes() {
    let project = project(BLOCKS);
    // Several parts of cells in each screen, and several blocks in each part.
    write_cells(&project, 24_000, 40, 0.5);
    assert!(stays(&project, "16 MB") && !stays(&project, "1 GB"));
    let held = tempfile::tempdir().unwrap();
    run_into(project.path(), held.path(), &["--memory", "1GB"]);
    for threads in ["1", "2"] {
        let stored = tempfile::tempdir().unwrap();
        run_into(project.path(), stored.path(), &["--memory", "16MB", "--threads", threads]);
        assert_same(held.path(), stored.path());
    }
    let equal = std::fs::read(held.path().join("steps/equal/prepare.json")).unwrap();
    let equal: Json = serde_json::from_slice(&equal).unwrap();
    assert!(
        equal["cells_too_shallow"].as_u64().unwrap() > 100 && equal["cells"].as_u64().unwrap() > 1000,
        "{equal}"
    );
    let drawn = std::fs::read(held.path().join("steps/few/prepare.json")).unwrap();
    let drawn: Json = serde_json::from_slice(&drawn).unwrap();
    assert_eq!(drawn["cells"], 200);
    assert!(drawn["cells_before"].as_u64().unwrap() > 10_000, "{drawn}");
}

fn parts(keys: &str, genes: usize) -> String {
    let names: Vec<String> = (0..genes).map(|j| format!("\"g{j}\"")).collect();
    PARTS.replace("GENES", &names.join(", ")) + keys
}

/// Runs a screen of so many cells until a file of it is there, and kills it; `false` if it had ended before.
fn is_killed_midway(project: &TempDir, dir: &TempDir, cells: usize, sign: &Path) -> bool {
    write_cells(project, cells, 12, 0.3);
    let mut run = run_of(project.path(), dir.path());
    let mut child = run.args(["--quiet", "--memory", "6MB", "--threads", "1"]).spawn().unwrap();
    wait_for("the first part", || sign.exists() || child.try_wait().unwrap().is_some());
    child.kill().unwrap();
    !child.wait().unwrap().success() && sign.exists()
}

#[test]
fn a_stored_screen_that_was_killed_goes_on_and_gives_the_same_bytes() {
    // Without a table the parts of a killed run leave their sums.
    for (keys, sign) in [("", "impacts/part-000000.parquet"), ("table = false\n", "summary/state.bin")] {
        let project = project(&parts(keys, 12));
        // More cells where the run was faster than the kill.
        let killed = [40_000, 120_000, 360_000].into_iter().find_map(|cells| {
            let killed = tempfile::tempdir().unwrap();
            let sign = killed.path().join("steps/screen.part").join(sign);
            is_killed_midway(&project, &killed, cells, &sign).then_some(killed)
        });
        let killed = killed.expect("a run that is killed midway");
        let sign_at = |step: &str| killed.path().join("steps").join(step).join(sign).metadata();
        let written = sign_at("screen.part").unwrap().modified().unwrap();
        let mut run = run_of(project.path(), killed.path());
        let output = run.args(["-v", "--memory", "6MB"]).output().unwrap();
        let said = text(&output.stderr);
        succeed(output);
        if keys.is_empty() {
            let kept = sign_at("screen").unwrap().modified().unwrap();
            assert_eq!(kept, written, "the part was computed again");
        } else {
            assert!(said.contains("the screen goes on where it was interrupted"), "{said}");
        }
        let calm = tempfile::tempdir().unwrap();
        run_into(project.path(), calm.path(), &["--memory", "1GB"]);
        assert_same(calm.path(), killed.path());
    }
}

#[test]
fn without_its_table_a_screen_tells_the_same() {
    let project = project(BLOCKS);
    write_cells(&project, 600, 120, 0.5);
    let run = |table: &str| {
        let dir = tempfile::tempdir().unwrap();
        let set = ["screen", "by-type"].map(|step| format!("steps.{step}.table={table}"));
        run_into(project.path(), dir.path(), &["--set", &set[0], "--set", &set[1]]);
        dir
    };
    let (with, without) = (run("true"), run("false"));
    let screens = ["screen", "by-type/cell_type=type 1"].map(|step| Path::new("steps").join(step));
    for screen in &screens {
        let [with, without] = [&with, &without].map(|dir| dir.path().join(screen));
        for gone in ["impacts", "screen.h5ad", "summary"] {
            assert!(!without.join(gone).exists(), "{gone}");
        }
        let same = |file: &str| {
            assert!(
                std::fs::read(with.join(file)).unwrap() == std::fs::read(without.join(file)).unwrap(),
                "{file}"
            );
        };
        same("effects.parquet");
        if with.join("cells.parquet").exists() {
            same("cells.parquet");
        }
        genes_agree(&with.join("genes.csv"), &without.join("genes.csv"));
        run_python("check_kept.py", &[&with, &without]);
    }
}

#[test]
fn an_evaluation_of_impacts_needs_their_table() {
    let (project, dir) = (project(WHOLE), tempfile::tempdir().unwrap());
    let set = ["--set", "steps.truth.table=false"];
    let said = fail(run_of(project.path(), dir.path()).args(set).output().unwrap(), 1);
    assert!(said.contains("step `impacts`") && said.contains("write `table = true`"), "{said}");
}

/// Means are equal, intervals to rounding, quantiles to the width of a bin, 1/64.
fn genes_agree(with: &Path, without: &Path) {
    let read = |path: &Path| -> Vec<csv::StringRecord> {
        csv::Reader::from_path(path).unwrap().records().map(Result::unwrap).collect()
    };
    let (with, without) = (read(with), read(without));
    assert!(with.len() == without.len() && with.len() > 20);
    for (a, b) in with.iter().zip(&without) {
        assert!((0..8).all(|column| a[column] == b[column]), "{a:?} {b:?}");
        for (column, error) in [(8, 1e-9), (9, 1e-9), (10, 1.0 / 64.0), (11, 1.0 / 64.0), (14, 1.0 / 64.0)] {
            let (Ok(x), Ok(y)) = (a[column].parse::<f64>(), b[column].parse::<f64>()) else {
                assert_eq!(a[column], b[column]);
                continue;
            };
            assert!((x - y).abs() <= error * x.abs() + 1e-12, "{column}: {a:?} {b:?}");
        }
    }
}

#[test]
fn what_does_not_fit_says_how_large_it_is_and_what_to_do() {
    let project = project(&BLOCKS.replace("train = \"few\"", "train = \"chosen\""));
    write_cells(&project, 12_000, 120, 0.5);
    let dir = tempfile::tempdir().unwrap();
    let said = fail(run_of(project.path(), dir.path()).args(["--memory", "1MB"]).output().unwrap(), 1);
    for part in ["cells × 31 genes under `train`", "more than half of `memory`, 1.0 MB", "at_most", "`split`"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let set = ["--set", "steps.model.train=\"few\""];
    let output = run_of(project.path(), dir.path()).args(["--memory", "1MB"]).args(set).output().unwrap();
    let said = fail(output, 1);
    assert!(said.contains("step `screen`") && said.contains("`h5ad = false`"), "{said}");
}

#[test]
fn an_amount_of_memory_that_is_none_is_refused() {
    let project = project(BLOCKS);
    write_cells(&project, 20, 20, 0.5);
    let said = fail(lacuna(&["run", "--memory", "lots"]).arg(project.path()).output().unwrap(), 2);
    assert!(said.contains("such as \"4 GB\""), "{said}");
    let said = fail(lacuna(&["run", "--memory", "12kB"]).arg(project.path()).output().unwrap(), 2);
    assert!(said.contains("at least 1 MB"), "{said}");
}

/// Runs a screen of 2,000 genes in so many cells and tells its peak, in MB, and the size of the values.
fn peak(cells: usize) -> Option<(f64, f64)> {
    let genes = 2000;
    let names: Vec<String> = (0..genes).map(|j| format!("\"g{j}\"")).collect();
    let pipeline = PARTS.replace("GENES", &names.join(", "));
    let knockouts = "knockouts = { use = \"genes\", with = { genes = [\"g0\", \"g1\", \"g2\", \"g3\"] } }";
    let project = project(&pipeline.replace("knockouts = \"each-expressed-gene\"", knockouts));
    let file = project.path().join("cells.h5ad");
    let (cells, genes) = (cells.to_string(), genes.to_string());
    let arguments = ["--cells", &cells, "--genes", &genes, "--expressed", "600", "--compression", "none"];
    let arguments: Vec<&Path> = std::iter::once(file.as_path()).chain(arguments.map(Path::new)).collect();
    run_python("make_cells.py", &arguments)?;
    let dir = tempfile::tempdir().unwrap();
    let mut run = run_of(project.path(), dir.path());
    succeed(run.args(["--quiet", "--memory", "64MB", "--threads", "2"]).output().unwrap());
    let run: Json = serde_json::from_slice(&std::fs::read(dir.path().join("run.json")).unwrap()).unwrap();
    let peak = run["memory"]["peak_bytes"].as_f64().unwrap();
    Some((peak / 1e6, file.metadata().unwrap().len() as f64 / 1e6))
}

#[test]
fn the_peak_does_not_grow_with_the_cells() {
    let (Some((small, of_small)), Some((large, of_large))) = (peak(6_000), peak(36_000)) else { return };
    let (grown, more) = (large - small, of_large - of_small);
    println!("peaks of {small:.0} and {large:.0} MB for {of_small:.0} and {of_large:.0} MB of values");
    assert!(more > 140.0, "{more}");
    // Names and annotations grow, at a few hundred bytes a cell.
    assert!(grown < 0.4 * more, "{grown:.0} MB more for {more:.0} MB more of values");
}
