//! The synthetic experiment of the paper, over three seeds.

use crate::support::{lacuna, root, succeed};
use std::path::Path;

/// (data, model, metric, stratum) → value.
fn scores(dir: &Path, step: &str) -> Vec<([String; 4], f64)> {
    let mut reader = csv::Reader::from_path(dir.join("steps").join(step).join("scores.csv")).unwrap();
    let row = |r: csv::StringRecord| {
        ([0, 1, 2, 3].map(|i| r[i].to_string()), r[4].parse::<f64>().unwrap_or(f64::NAN))
    };
    reader.records().map(|r| row(r.unwrap())).collect()
}

fn value(scores: &[([String; 4], f64)], key: [&str; 4]) -> f64 {
    let found = scores.iter().find(|(k, _)| k.each_ref().map(String::as_str) == key);
    found.unwrap_or_else(|| panic!("no score {key:?}")).1
}

#[test]
fn dko_synthetic_is_as_accurate_as_the_reference_and_baselines_are_far_below() {
    for seed in ["1", "2", "3"] {
        let dir = tempfile::tempdir().unwrap();
        let example = root().join("examples/dko-synthetic");
        let mut command = lacuna(&["run", "--quiet", "--seed", seed, "--run-dir"]);
        succeed(command.arg(dir.path()).arg(example).output().unwrap());
        let mapping = scores(dir.path(), "mapping");
        let rho = |model| value(&mapping, ["parts.test", model, "spearman", "flattened"]);
        println!("seed {seed}: mapping ρ {:.4}, masked-mean {:.4}", rho("mapper"), rho("masked-mean"));
        assert!((0.92..=0.945).contains(&rho("mapper")), "{}", rho("mapper"));
        assert!(rho("masked-mean") < rho("mapper") - 0.03);
        let distance = |model| value(&mapping, ["parts.test", model, "bray-curtis", "cells"]);
        println!(
            "seed {seed}: mapping BC {:.4}, masked-mean {:.4}",
            distance("mapper"),
            distance("masked-mean")
        );
        assert!(distance("masked-mean") > distance("mapper") + 0.03);
        let singles = scores(dir.path(), "single-impacts");
        let impact = |model, stratum| value(&singles, ["singles.reference", model, "spearman", stratum]);
        println!(
            "seed {seed}: KO ρ {:.4}, regulators {:.4}",
            impact("model", "all"),
            impact("model", "regulator")
        );
        assert!(impact("model", "all") >= 0.93 && impact("model", "regulator") >= 0.82);
        for baseline in ["masked-mean", "null", "no-change", "mean", "knn"] {
            assert!(impact(baseline, "all") < 0.65, "{baseline}: {}", impact(baseline, "all"));
            assert!(impact(baseline, "regulator") < 0.65);
        }
        let doubles = scores(dir.path(), "double-impacts");
        let double = value(&doubles, ["doubles", "model", "spearman", "all"]);
        println!("seed {seed}: double KO ρ {double:.4}");
        assert!(double >= 0.9, "{double}");
    }
}
