//! Who may import whom: plugins → sdk → sdk/abi ← host. A plugin knows neither the host nor another plugin.

use crate::support::{root, text};
use serde_json::Value as Json;
use std::process::Command;

fn dependencies() -> Vec<(String, Vec<String>)> {
    let mut command = Command::new(env!("CARGO"));
    let output =
        command.current_dir(root()).args(["metadata", "--format-version=1", "--no-deps"]).output().unwrap();
    let metadata: Json = serde_json::from_str(&text(&output.stdout)).unwrap();
    let normal = |p: &Json| {
        let all = p["dependencies"].as_array().unwrap();
        all.iter().filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_string()).collect()
    };
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|p| (p["name"].as_str().unwrap().to_string(), normal(p))).collect()
}

#[test]
fn imports_go_one_way() {
    let all = dependencies();
    assert!(all.len() >= 8, "{all:?}");
    for (package, dependencies) in &all {
        let ours: Vec<&str> =
            dependencies.iter().map(String::as_str).filter(|d| d.starts_with("lacuna")).collect();
        let allowed: &[&str] = match package.as_str() {
            "lacuna-abi" => &[],
            "lacuna-sdk" | "lacuna" => &["lacuna-abi"],
            _ => &["lacuna-sdk"],
        };
        assert_eq!(ours, allowed, "{package}");
    }
}

#[test]
fn each_library_is_named_where_it_belongs_only() {
    let owners = [
        ("abi_stable", &["lacuna-abi"][..]),
        ("libloading", &["lacuna"]),
        ("object", &["lacuna"]),
        ("clap", &["lacuna"]),
        ("toml", &["lacuna"]),
        ("hdf5-pure", &["lacuna"]),
        ("parquet", &["lacuna"]),
    ];
    for (package, dependencies) in dependencies() {
        for (library, allowed) in owners {
            let names_it = dependencies.iter().any(|d| d == library);
            assert!(!names_it || allowed.contains(&package.as_str()), "{package} names {library}");
        }
    }
}
