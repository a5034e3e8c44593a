//! Where `mlp` computes: errors and the fall-back of the default build, and the scores on a device.
//!
//! LACUNA_DEVICE_PLUGIN names a library of `mlp` that was built with wgpu, as `.ci/run` builds it.

use crate::accuracy::{scores, value};
use crate::support::{bin_dir, fail, lacuna, project, python_path, root, succeed};
use std::path::{Path, PathBuf};
use std::process::Command;

const PIPELINE: &str = r#"format = 1
name = "devices"
seed = 4

[steps.world]
use = "grn"
with = { cells = 60, genes = 20, regulators = 8, absent_genes = 2 }

[steps.parts]
use = "split"
from = "world"
test = 0
validation = 0.2

[steps.model]
use = "mlp"
train = "parts.train"
validation = "parts.validation"
with = { steps = 20, device = "cpu" }

[steps.singles]
use = "screen"
model = "model"
cells = "world"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
"#;

#[test]
fn a_device_that_the_build_lacks_is_an_error_and_auto_falls_back_and_says_so() {
    let project = project(PIPELINE);
    let run = |device: &str| {
        let value = format!("steps.model.with.device=\"{device}\"");
        lacuna(&["run", "--set", &value]).arg(project.path()).output().unwrap()
    };
    for device in ["cuda", "wgpu"] {
        let said = fail(run(device), 1);
        assert!(said.contains(&format!("`device`: {device} is not in this build")), "{said}");
        assert!(said.contains(&format!("-p lacuna-mlp --features {device}")), "{said}");
    }
    let said = run("auto");
    assert!(said.status.success() && crate::support::text(&said.stderr).contains("on the processor"));
    let folder = project.path().join("runs/devices/steps/singles");
    let bytes = || std::fs::read(folder.join("genes.csv")).unwrap();
    let by_auto = bytes();
    succeed(run("cpu"));
    assert_eq!(by_auto, bytes());
    let said = succeed(lacuna(&["plugin", "inspect", "mlp"]).output().unwrap());
    assert!(
        said.contains("devices on this machine\n    cpu: ") && said.contains("cuda: not in this build"),
        "{said}"
    );
    let said = succeed(lacuna(&["plugin", "inspect", "mlp", "--json"]).output().unwrap());
    assert!(said.contains("\"devices\": [\n"), "{said}");
}

const IN_PYTHON: &str = r#"
import lacuna_plugin as lacuna


class Anywhere(lacuna.Model):
    "A model that tells where it can compute"

    id = "anywhere"

    def devices(self):
        return ["abacus 0: of wood"]


class Astray(lacuna.Model):
    "A model that cannot tell"

    id = "astray"

    def devices(self):
        raise lacuna.Failure("the driver is gone")


if __name__ == "__main__":
    lacuna.run("places", [Anywhere, Astray])
"#;

#[test]
fn a_model_in_python_tells_of_its_devices_and_what_it_cannot_tell_is_said() {
    let Some(path) = python_path() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("places.py"), IN_PYTHON).unwrap();
    let inspect = |words: &[&str]| {
        let mut command = lacuna(&["plugin", "inspect", "places.py"]);
        succeed(command.args(words).current_dir(folder.path()).env("PATH", &path).output().unwrap())
    };
    let said = inspect(&[]);
    assert!(said.contains("devices on this machine\n    abacus 0: of wood"), "{said}");
    assert!(said.contains("    not known: ") && said.contains("the driver is gone"), "{said}");
    let said = inspect(&["--json"]);
    assert!(said.contains("\"devices_not_known\": \"") && said.contains("abacus 0"), "{said}");
}

/// A folder with the binary and all plugins, of which `mlp` is the one that was built with wgpu.
fn with_wgpu() -> Option<(tempfile::TempDir, PathBuf)> {
    let Some(plugin) = std::env::var_os("LACUNA_DEVICE_PLUGIN") else {
        println!("skipped: LACUNA_DEVICE_PLUGIN names no library of `mlp` that was built with wgpu");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    succeed(lacuna(&["--version"]).output().unwrap());
    for file in std::fs::read_dir(bin_dir()).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        if name == "lacuna" || name.starts_with("liblacuna_") && name.ends_with(".so") {
            std::fs::copy(file.path(), folder.path().join(name)).unwrap();
        }
    }
    std::fs::copy(plugin, folder.path().join("liblacuna_mlp.so")).unwrap();
    let binary = folder.path().join("lacuna");
    Some((folder, binary))
}

#[test]
fn dko_synthetic_scores_on_a_device_as_on_the_processor() {
    let Some((folder, binary)) = with_wgpu() else { return };
    let cache = folder.path().join("cache");
    let lacuna = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(arguments).env("LACUNA_CACHE", &cache).env("XDG_DATA_HOME", folder.path());
        command
    };
    let said = succeed(lacuna(&["plugin", "inspect", "mlp"]).output().unwrap());
    assert!(said.contains("wgpu 0: "), "{said}");
    // A device that is software takes 20 ms a step: fewer of them, and fewer looks.
    let run = |name: &str, seed: &str, device: &str| {
        let mut all = vec!["run".to_string(), "--quiet".into(), "--seed".into(), seed.into()];
        for step in ["mapper", "model"] {
            all.extend(["--set".into(), format!("steps.{step}.with.device=\"{device}\"")]);
            all.extend(["--set".into(), format!("steps.{step}.with.steps=1500")]);
            all.extend(["--set".into(), format!("steps.{step}.with.validate_every=10")]);
        }
        let dir = folder.path().join(name);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let example = root().join("examples/dko-synthetic");
        succeed(lacuna(&all).arg("--run-dir").arg(&dir).arg(example).output().unwrap());
        of_run(&dir)
    };
    let (cpu, wgpu) = (run("cpu", "1", "cpu"), run("wgpu", "1", "wgpu"));
    for ((what, cpu), wgpu) in ["mapping ρ", "KO ρ", "double KO ρ"].iter().zip(cpu).zip(wgpu) {
        println!("{what}: {cpu:.4} by the processor, {wgpu:.4} by the device");
        // Two seeds of the reference differ by .003 and more.
        assert!((cpu - wgpu).abs() < 0.005, "{what}: {cpu} {wgpu}");
    }
    let value = "steps.model.with={ device = \"wgpu\", device_index = 9 }";
    let asked = lacuna(&["run", "--set", value]).arg(project(PIPELINE).path()).output().unwrap();
    let said = fail(asked, 1);
    assert!(said.contains("`device_index`: expected 0 to 0, found 9"), "{said}");
}

fn of_run(dir: &Path) -> [f64; 3] {
    let of = |step: &str, key: [&str; 4]| value(&scores(dir, step), key);
    [
        of("mapping", ["parts.test", "mapper", "spearman", "flattened"]),
        of("single-impacts", ["singles.reference", "model", "spearman", "all"]),
        of("double-impacts", ["doubles", "model", "spearman", "all"]),
    ]
}
