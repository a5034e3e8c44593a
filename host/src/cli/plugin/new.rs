//! `lacuna plugin new`: a plugin that builds, is tested and runs, to be changed into another. Its files are real ones,
//! under `assets/new`, of a plugin named `my-plugin`.

use crate::cli::{print, shown};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lacuna::plugin::is_name;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct NewArgs {
    /// The plugin's name: a-z, 0-9 and -, as in my-metric.
    name: String,
    /// What it is to hold.
    #[arg(long, value_enum)]
    kind: Kind,
    /// What it is written in.
    #[arg(long, value_enum, default_value = "rust")]
    lang: Lang,
    /// The SDK: a folder, or a published version. Default: that of the checkout that this executable was built from,
    /// while it is there, else the published one of the same version.
    #[arg(long, value_name = "PATH|VERSION")]
    sdk: Option<String>,
    /// The folder that is made. Default: the name, here.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// How far apart two profiles are.
    Metric,
    /// Which genes are knocked out in which cells.
    Strategy,
    /// Predicts profiles from assemblages.
    Model,
    /// Makes cells with a known truth.
    Simulator,
}

#[derive(Clone, Copy, ValueEnum)]
enum Lang {
    /// A crate with one dependency, the SDK.
    Rust,
    /// A script with two, numpy and pyarrow.
    Python,
}

/// What one kind is written from: the library or the script with its tests, the pipeline, and a line about it.
struct Template {
    library: &'static str,
    script: &'static str,
    script_tests: &'static str,
    pipeline: &'static str,
    description: &'static str,
}

macro_rules! template {
    ($kind:literal, $description:literal) => {
        Template {
            library: include_str!(concat!("../../../assets/new/rust/", $kind, "/lib.rs")),
            script: include_str!(concat!("../../../assets/new/python/", $kind, "/plugin.py")),
            script_tests: include_str!(concat!("../../../assets/new/python/", $kind, "/test_plugin.py")),
            pipeline: include_str!(concat!("../../../assets/new/rust/", $kind, "/pipeline.toml")),
            description: $description,
        }
    };
}

const METRIC: Template = template!("metric", "A metric");
const STRATEGY: Template = template!("strategy", "A knockout strategy");
const MODEL: Template = template!("model", "A model");
const SIMULATOR: Template = template!("simulator", "A simulator");

const MANIFEST: &str = include_str!("../../../assets/new/rust/Cargo.toml");
const README: &str = include_str!("../../../assets/new/rust/README.md");
const PYTHON_README: &str = include_str!("../../../assets/new/python/README.md");
const PYTHON_MODULE: &str = include_str!("../../../../sdk/python/lacuna_plugin.py");
const STYLE: &str = include_str!("../../../assets/new/rust/rustfmt.toml");
const IGNORED: &str = include_str!("../../../assets/new/rust/gitignore");

/// What a Rust crate cannot be named, since the compiler or the SDK has the name.
const TAKEN: [&str; 6] = ["alloc", "core", "lacuna-sdk", "proc-macro", "std", "test"];

pub fn new(args: &NewArgs) -> Result<u8> {
    if let Some(problem) = name_problem(&args.name) {
        bail!("{problem}");
    }
    let folder = args.output.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if folder.symlink_metadata().is_ok() {
        bail!("{} is there already: choose another with --output", shown(&folder));
    }
    let (kind, wrote) = (args.kind.name(), shown(&folder));
    print(&match args.lang {
        Lang::Rust => {
            let sdk = Sdk::choose(args.sdk.as_deref())?;
            write(&folder, &files(&args.name, args.kind, &sdk))?;
            let library = built(&args.name);
            format!(
                "wrote {wrote}: a {kind} in src/lib.rs, against {sdk}\nnext, in it:\n  cargo build --release\n  \
                 lacuna plugin check {library}\n  lacuna run pipeline.toml\n"
            )
        }
        Lang::Python if args.sdk.is_some() => bail!("--sdk is for Rust: a script comes with its module"),
        Lang::Python => {
            write(&folder, &python_files(&args.name, args.kind))?;
            format!(
                "wrote {wrote}: a {kind} in plugin.py\nnext, in it (python3 needs numpy and pyarrow):\n  \
                 python3 -m unittest\n  lacuna plugin check plugin.py\n  lacuna run pipeline.toml\n"
            )
        }
    })?;
    Ok(0)
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Metric => "metric",
            Self::Strategy => "strategy",
            Self::Model => "model",
            Self::Simulator => "simulator",
        }
    }

    fn template(self) -> Template {
        match self {
            Self::Metric => METRIC,
            Self::Strategy => STRATEGY,
            Self::Model => MODEL,
            Self::Simulator => SIMULATOR,
        }
    }
}

/// What is wrong with a name, with one that is not.
fn name_problem(name: &str) -> Option<String> {
    let clean = cleaned(name);
    let hint = format!("; how about `{clean}`?");
    if !is_name(name) {
        return Some(format!("expected a plugin's name of a-z, 0-9 and -, found `{name}`{hint}"));
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        let expected = "expected a name that begins with a letter and does not end with -, as crates have to";
        return Some(format!("{expected}, found `{name}`{hint}"));
    }
    TAKEN.contains(&name).then(|| format!("`{name}` is the name of another crate{hint}"))
}

/// The nearest name that a plugin can have.
fn cleaned(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    match words.join("-") {
        clean if clean.is_empty() => "my-plugin".into(),
        clean if !clean.starts_with(|c: char| c.is_ascii_lowercase()) => format!("my-{clean}"),
        clean if TAKEN.contains(&clean.as_str()) => format!("my-{clean}"),
        clean => clean,
    }
}

/// Which SDK the plugin is built with.
enum Sdk {
    /// A folder, absolute. With the versions of what it depends on itself, if they are recorded beside it.
    Folder(PathBuf, Option<String>),
    /// A published version.
    Version(String),
}

impl std::fmt::Display for Sdk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path, _) => write!(f, "the SDK in {}", path.display()),
            Self::Version(version) => write!(f, "lacuna-sdk {version}"),
        }
    }
}

impl Sdk {
    fn choose(wanted: Option<&str>) -> Result<Self> {
        match wanted {
            Some(version) if is_version(version) => Ok(Self::Version(version.into())),
            Some(path) => Self::folder(Path::new(path)),
            None => {
                let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk"));
                Ok(Self::folder(own).unwrap_or(Self::Version(env!("CARGO_PKG_VERSION").into())))
            }
        }
    }

    fn folder(path: &Path) -> Result<Self> {
        if !is_sdk(path) {
            let inside = path.join("sdk");
            let hint =
                if is_sdk(&inside) { format!("; did you mean {}?", inside.display()) } else { "".into() };
            let expected = "--sdk: expected a version, as in 0.1.0, or the folder of the crate lacuna-sdk";
            bail!("{expected}, found {}{hint}", path.display());
        }
        let path = path.canonicalize().with_context(|| format!("--sdk: {}", path.display()))?;
        if path.to_str().is_none() {
            bail!("--sdk: {}: Cargo cannot name this path, which is not UTF-8", path.display());
        }
        let lock =
            path.parent().and_then(|checkout| std::fs::read_to_string(checkout.join("Cargo.lock")).ok());
        Ok(Self::Folder(path, lock))
    }

    /// The dependency, as Cargo.toml has it.
    fn dependency(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        match self {
            Self::Folder(path, _) => format!("{{ path = {} }}", quoted(&path.to_string_lossy())),
            Self::Version(version) => quoted(version),
        }
    }
}

/// Whether a text is a version, as Cargo.toml writes it, and no folder.
fn is_version(text: &str) -> bool {
    let number = text.trim_start_matches(['=', '^', '~']);
    number.starts_with(|c: char| c.is_ascii_digit()) && !Path::new(text).exists()
}

/// Whether a folder holds the crate lacuna-sdk.
fn is_sdk(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let manifest: toml::Table = text.parse().unwrap_or_default();
    manifest.get("package").and_then(|p| p.get("name")?.as_str()) == Some("lacuna-sdk")
}

/// All files of a new plugin: where they go in its folder, and what is in them.
fn files(name: &str, kind: Kind, sdk: &Sdk) -> Vec<(&'static str, String)> {
    let Template { library, pipeline, description, .. } = kind.template();
    let fill = |text: &str| {
        text.replace("target/release/libmy_plugin.so", &built(name))
            .replace("my-plugin", name)
            .replace("A DESCRIPTION", description)
    };
    let mut files = vec![
        // The SDK last: its path may hold any words.
        ("Cargo.toml", fill(MANIFEST).replace("SDK", &sdk.dependency())),
        ("README.md", fill(README)),
        ("pipeline.toml", fill(pipeline)),
        ("rustfmt.toml", STYLE.into()),
        (".gitignore", IGNORED.into()),
        ("src/lib.rs", fill(library)),
    ];
    if let Sdk::Folder(_, Some(lock)) = sdk {
        // The versions that the SDK was built with are on this machine: nothing has to be looked up or fetched.
        files.push(("Cargo.lock", lock.clone()));
    }
    files
}

/// All files of a new plugin in Python. Its pipeline is that of the same plugin in Rust.
fn python_files(name: &str, kind: Kind) -> Vec<(&'static str, String)> {
    let Template { script, script_tests, pipeline, description, .. } = kind.template();
    let pipeline = pipeline
        .replace("path = \"target/release/libmy_plugin.so\"", "command = [\"python3\", \"plugin.py\"]")
        .replace(" Build first: cargo build --release", "");
    let fill = |text: &str| text.replace("my-plugin", name).replace("A DESCRIPTION", description);
    vec![
        ("README.md", fill(PYTHON_README)),
        ("pipeline.toml", fill(&pipeline)),
        ("plugin.py", fill(script)),
        ("test_plugin.py", script_tests.into()),
        ("lacuna_plugin.py", PYTHON_MODULE.into()),
    ]
}

/// Where cargo puts the library.
fn built(name: &str) -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    format!("target/release/{DLL_PREFIX}{}{DLL_SUFFIX}", name.replace('-', "_"))
}

fn write(folder: &Path, files: &[(&str, String)]) -> Result<()> {
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_plugin_cannot_have_is_refused_with_one_that_it_can() {
        let refused = [
            ("My Metric", "my-metric"),
            ("my_metric", "my-metric"),
            ("--", "my-plugin"),
            ("", "my-plugin"),
            ("../up", "up"),
            ("10x", "my-10x"),
            ("tail-", "tail"),
            ("core", "my-core"),
        ];
        for (name, better) in refused {
            let problem = name_problem(name).unwrap_or_default();
            assert!(problem.ends_with(&format!("how about `{better}`?")), "{name}: {problem}");
            assert_eq!(name_problem(better), None);
        }
    }

    #[test]
    fn a_path_with_quotes_is_still_a_dependency() {
        let sdk = Sdk::Folder(PathBuf::from("/a \"quoted\" \\ path"), None);
        let table: toml::Table = format!("sdk = {}", sdk.dependency()).parse().unwrap();
        assert_eq!(table["sdk"]["path"].as_str(), Some("/a \"quoted\" \\ path"));
    }
}
