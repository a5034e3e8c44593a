//! `lacuna plugin why`: where a name was looked for, what was found there, and what refused it.

use super::{PlaceArgs, find, nearest_name};
use crate::cli::{FAILED, WRONG, print, shown};
use anyhow::Result;
use clap::Args;
use lacuna::plugin::{Failure, Kind, Origin, Plugin, Registry, SearchPath};
use lacuna::steps::HostStep;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct WhyArgs {
    /// A plugin (`grn`), a component (`mlp`, `metrics/spearman`), or a library file.
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// The answer.
#[derive(Serialize)]
struct Why {
    name: String,
    verdict: Verdict,
    /// The verdict in a sentence.
    sentence: String,
    /// What the name means.
    found: Vec<Found>,
    /// Files that may be meant and are not used.
    unused: Vec<Looked>,
    searched: Vec<Place>,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// It can be used by this name.
    Used,
    /// Several plugins have a component of this name.
    Ambiguous,
    /// There is a file, which cannot be used.
    Refused,
    /// There is a file, whose plugin is used from elsewhere, or which is no plugin.
    PassedOver,
    /// There is a file, where nothing is searched for.
    Outside,
    /// There is nothing of this name.
    NotFound,
}

/// A plugin, or a component of one.
#[derive(Serialize)]
struct Found {
    plugin: String,
    version: String,
    /// Such as `metric spearman`; none for the plugin as a whole.
    components: Vec<String>,
    path: PathBuf,
    sha256: String,
    origin: String,
    /// Whether it runs in a worker process.
    worker: bool,
    /// Whether it is a command.
    command: bool,
}

/// A file that was looked at.
#[derive(Clone, Serialize)]
struct Looked {
    path: PathBuf,
    origin: String,
    outcome: Outcome,
    /// The name of its plugin, or why it is not used.
    says: String,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Loaded,
    Refused,
    PassedOver,
}

/// A place that was searched.
#[derive(Serialize)]
struct Place {
    path: PathBuf,
    origin: String,
    trouble: Option<&'static str>,
    files: Vec<Looked>,
}

pub fn why(args: &WhyArgs) -> Result<u8> {
    let registry = args.place.registry();
    let answer = answer(&args.name, &registry);
    print(&if args.json { format!("{:#}\n", serde_json::to_value(&answer)?) } else { text(&answer) })?;
    Ok(match answer.verdict {
        Verdict::Used => 0,
        Verdict::NotFound => WRONG,
        _ => FAILED,
    })
}

fn answer(name: &str, registry: &Registry) -> Why {
    let file = file_of(name, registry);
    let found = found(name, file.as_deref(), registry);
    let unused = unused(name, file.as_deref(), registry);
    let searched = registry.searched.iter().map(|place| searched(place, registry)).collect();
    let mut why =
        Why { name: name.into(), verdict: Verdict::Used, sentence: "".into(), found, unused, searched };
    (why.verdict, why.sentence) = match file {
        Some(file) if why.found.is_empty() && why.unused.is_empty() => outside(&file, &mut why),
        _ => verdict(&why, registry),
    };
    why
}

/// The file that a name is: one here, or the library of this name that a plugin was loaded from.
fn file_of(name: &str, registry: &Registry) -> Option<PathBuf> {
    let loaded = || registry.plugins.iter().find(|p| p.path.file_name().is_some_and(|file| file == name));
    let here = Path::new(name);
    let path = if here.is_file() { here } else { &loaded()?.path };
    path.canonicalize().ok()
}

fn found(name: &str, file: Option<&Path>, registry: &Registry) -> Vec<Found> {
    let found = find(registry, name, file.map(Path::to_path_buf)).into_iter();
    let described = found.map(|(plugin, components)| {
        let is_whole = file.is_some() || plugin.manifest.name == name;
        let components = components.iter().filter(|_| !is_whole);
        let components = components.map(|c| format!("{} {}", c.kind, c.id)).collect();
        found_of(&plugin, components, registry)
    });
    described.collect()
}

fn found_of(plugin: &Plugin, components: Vec<String>, registry: &Registry) -> Found {
    let place = registry.searched.iter().find(|place| holds(place, &plugin.path));
    Found {
        plugin: plugin.manifest.name.clone(),
        version: plugin.manifest.version.clone(),
        components,
        path: plugin.path.clone(),
        sha256: plugin.sha256.clone(),
        // A command lies in no place.
        origin: place.map_or("named in the pipeline".into(), |place| place.origin.to_string()),
        worker: plugin.is_apart(),
        command: plugin.is_command(),
    }
}

/// Whether a file is a place, or lies in it.
fn holds(place: &SearchPath, file: &Path) -> bool {
    place.path == file || file.parent() == Some(&place.path)
}

fn looked(failure: &Failure, outcome: Outcome) -> Looked {
    let Failure { path, origin, reason } = failure;
    Looked { path: path.clone(), origin: origin.to_string(), outcome, says: reason.clone() }
}

/// All files that are not used.
fn all_unused(registry: &Registry) -> impl Iterator<Item = Looked> {
    let refused = registry.failures.iter().map(|f| looked(f, Outcome::Refused));
    refused.chain(registry.passed_over.iter().map(|f| looked(f, Outcome::PassedOver)))
}

/// Files that are not used, and that the name may mean: the file itself, a file of this name, one that a plugin of
/// this name would be built as, one that says that it is this plugin.
fn unused(name: &str, file: Option<&Path>, registry: &Registry) -> Vec<Looked> {
    let plugin = name.split('/').next().unwrap_or(name);
    let is_meant = |looked: &Looked| {
        let called = looked.path.file_name().unwrap_or_default().to_string_lossy();
        match file {
            Some(file) => looked.path.canonicalize().is_ok_and(|path| path == file),
            None => {
                called == name
                    || built_from(&called) == plugin
                    || looked.says.contains(&format!("it is named `{plugin}`"))
            }
        }
    };
    all_unused(registry).filter(is_meant).collect()
}

/// The plugin that a library is built from, by its name: `robust-metrics` for `librobust_metrics.so`.
fn built_from(file: &str) -> String {
    let stem = file.split('.').next().unwrap_or(file);
    let stem = stem.strip_prefix(std::env::consts::DLL_PREFIX).unwrap_or(stem);
    stem.strip_prefix("lacuna_").unwrap_or(stem).replace('_', "-")
}

fn searched(place: &SearchPath, registry: &Registry) -> Place {
    let first = |file: &Path| registry.searched.iter().find(|place| holds(place, file)) == Some(place);
    let loaded = registry.plugins.iter().filter(|plugin| first(&plugin.path)).map(|plugin| Looked {
        path: plugin.path.clone(),
        origin: place.origin.to_string(),
        outcome: Outcome::Loaded,
        says: format!("plugin {} {}", plugin.manifest.name, plugin.manifest.version),
    });
    let origin = place.origin.to_string();
    let unused = all_unused(registry).filter(|looked| looked.origin == origin && holds(place, &looked.path));
    let mut files: Vec<Looked> = loaded.chain(unused).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Place { path: place.path.clone(), origin, trouble: place.trouble(), files }
}

fn verdict(why: &Why, registry: &Registry) -> (Verdict, String) {
    let name = &why.name;
    let refused = |looked: &Looked| matches!(looked.outcome, Outcome::Refused);
    match &why.found[..] {
        [] if why.unused.iter().any(refused) => (Verdict::Refused, format!("`{name}` is refused")),
        [] if !why.unused.is_empty() => (Verdict::PassedOver, format!("`{name}` is passed over")),
        [] => (Verdict::NotFound, not_found(name, registry)),
        _ => match ambiguous(name, registry) {
            Some(full) => {
                let sentence = format!("`{name}` is in several plugins: write {}", full.join(" or "));
                (Verdict::Ambiguous, sentence)
            }
            None => (Verdict::Used, format!("`{name}` is used")),
        },
    }
}

/// The full names of a component that several plugins have. One of another kind is told apart by where it is used.
fn ambiguous(name: &str, registry: &Registry) -> Option<Vec<String>> {
    let of_this_name: Vec<_> = registry.components().filter(|(_, c)| c.id == name).collect();
    let is_twice = |kind: &Kind| of_this_name.iter().filter(|(_, c)| c.kind == *kind).count() > 1;
    let names = of_this_name.iter().map(|(plugin, c)| plugin.full_name(&c.id));
    of_this_name.iter().any(|(_, c)| is_twice(&c.kind)).then(|| names.collect())
}

fn not_found(name: &str, registry: &Registry) -> String {
    if HostStep::named(name).is_some() {
        return format!("`{name}` is a step of the host: no plugin has it");
    }
    let hint = nearest_name(name, registry).map(|near| format!("; did you mean `{near}`?"));
    let hint = hint.unwrap_or_else(|| ".".into());
    let owner = name.split_once('/').map(|(owner, _)| owner);
    let owner = registry.plugins.iter().find(|plugin| Some(plugin.manifest.name.as_str()) == owner);
    let more = match (owner, registry.failures.len()) {
        (Some(plugin), _) => {
            let ids: Vec<&str> = plugin.manifest.components.iter().map(|c| c.id.as_str()).collect();
            format!(" The plugin has: {}", ids.join(", "))
        }
        (None, 0) => "".into(),
        (None, n) => format!(" What did not load may hold it: {n} of the files below"),
    };
    format!("`{name}` is not found{hint}{more}")
}

/// Judges a file that no search comes across.
fn outside(file: &Path, why: &mut Why) -> (Verdict, String) {
    let alone = Registry::of_file(file);
    why.unused = all_unused(&alone).map(|looked| Looked { origin: "this file".into(), ..looked }).collect();
    let Some(plugin) = alone.plugins.first() else {
        return (Verdict::Refused, format!("`{}` is refused", why.name));
    };
    let name = &plugin.manifest.name;
    why.found = vec![found_of(plugin, vec![], &alone)];
    let places = if plugin.is_command() {
        format!("name it in the pipeline with `[plugins.{name}] command = [\"python3\", …]`")
    } else {
        format!("name it in the pipeline with `[plugins.{name}] path = …`, or say --plugin-dir")
    };
    (Verdict::Outside, format!("`{}` would load, but lies in no place that is searched: {places}", why.name))
}

fn text(why: &Why) -> String {
    let mut out = format!("{}\n", why.sentence);
    for found in &why.found {
        out += &found_text(found, why.verdict);
    }
    for looked in &why.unused {
        let _ = writeln!(out, "  {} ({}): {}", shown(&looked.path), looked.origin, looked.says);
    }
    out += "\nLooked in:\n";
    for place in &why.searched {
        let trouble = place.trouble.map(|t| format!(" ({t})")).unwrap_or_default();
        let _ = writeln!(out, "  {} ({}){trouble}", shown(&place.path), place.origin);
        for looked in &place.files {
            let file = looked.path.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(out, "    {file}: {}{}", looked.outcome.word(), looked.says);
        }
    }
    out
}

fn found_text(found: &Found, verdict: Verdict) -> String {
    let Found { plugin, version, components, path, origin, .. } = found;
    let shipped = *origin == Origin::Executable.to_string();
    let of = if components.is_empty() { "".into() } else { format!("{} of ", components.join(", ")) };
    let what = if found.command { "command" } else { "library" };
    let mut out = format!("  {of}plugin {plugin} {version}\n    {what}  {}\n", shown(path));
    if verdict != Verdict::Outside {
        let _ = writeln!(out, "    found    {origin}");
    }
    let place = match (found.command, found.worker) {
        (true, _) => "in a process of its own",
        (_, true) => {
            "in a worker process, as what others made; with `isolate = false`, a step runs it in this one"
        }
        _ if shipped => "in this process, as what is shipped with it",
        _ => "in this process, as the lock file names it",
    };
    let _ = writeln!(out, "    runs     {place}");
    out
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Loaded => "",
            Self::Refused => "refused: ",
            Self::PassedOver => "passed over: ",
        }
    }
}
