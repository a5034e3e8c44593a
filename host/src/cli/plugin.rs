//! `lacuna plugin new`, `list`, `inspect`, `why` and `check`.

mod check;
mod new;
mod why;

use super::{FAILED, WRONG, print, shown};
use anyhow::Result;
use clap::{Args, Subcommand};
use lacuna::pipeline::{nearest, range_in_words};
use lacuna::plugin::{Component, Kind, Plugin, Registry};
use serde_json::{Value as Json, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Write a new plugin: a folder with a component that works, its tests, and a pipeline that uses it.
    New(new::NewArgs),
    /// List all plugins and components; what did not load, and why.
    List(ListArgs),
    /// Show all there is to know of a plugin, a component or a library file: parameters, defaults, ranges, docs.
    Inspect(InspectArgs),
    /// Try out a built plugin: every component, in worker processes. Says what passed, failed, crashed or hung.
    Check(check::CheckArgs),
    /// Say whether a plugin, a component or a library file is used, and why: where it was looked for, what was found
    /// there, what refused it.
    Why(why::WhyArgs),
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct InspectArgs {
    /// A plugin (`grn`), a component (`mlp`, `metrics/spearman`), or a library file.
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print as JSON; parameters as a JSON schema.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct PlaceArgs {
    /// Look for plugins in this folder too.
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    /// Look as a pipeline in this folder would: in its `plugins` folder too.
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
}

impl PlaceArgs {
    fn registry(&self) -> Registry {
        lacuna::pipeline::plugins_for(self.project.as_deref(), &self.plugin_dir)
    }
}

pub fn plugin(command: &PluginCommand) -> Result<u8> {
    match command {
        PluginCommand::New(args) => new::new(args),
        PluginCommand::List(args) => list(args),
        PluginCommand::Inspect(args) => inspect(args),
        PluginCommand::Check(args) => check::check_plugin(args),
        PluginCommand::Why(args) => why::why(args),
    }
}

fn list(args: &ListArgs) -> Result<u8> {
    let registry = args.place.registry();
    print(&if args.json { format!("{:#}\n", list_json(&registry)) } else { list_text(&registry) })?;
    Ok(if registry.failures.is_empty() { 0 } else { FAILED })
}

fn list_text(registry: &Registry) -> String {
    let mut out = String::new();
    for plugin in &registry.plugins {
        let m = &plugin.manifest;
        let home = if plugin.is_apart() { " (in a worker process)" } else { "" };
        let _ = writeln!(out, "{} {}  {}\n  {}{home}", m.name, m.version, m.description, shown(&plugin.path));
        for c in &m.components {
            let _ = writeln!(out, "  {:<10} {:<22} {}", c.kind.to_string(), c.id, c.doc);
        }
        out.push('\n');
    }
    if !registry.failures.is_empty() {
        out += "Did not load:\n";
        for f in &registry.failures {
            let _ = writeln!(out, "  {} ({}): {}", shown(&f.path), f.origin, f.reason);
        }
        out.push('\n');
    }
    out += "Looked in:\n";
    for place in &registry.searched {
        let trouble = place.trouble().map(|t| format!(" ({t})")).unwrap_or_default();
        let _ = writeln!(out, "  {} ({}){trouble}", shown(&place.path), place.origin);
    }
    out
}

fn list_json(registry: &Registry) -> Json {
    let failure = |f: &lacuna::plugin::Failure| json!({ "path": f.path, "origin": f.origin.to_string(), "reason": f.reason });
    let place = |p: &lacuna::plugin::SearchPath| json!({ "path": p.path, "origin": p.origin.to_string(), "exists": p.path.exists() });
    json!({
        "plugins": registry.plugins.iter().map(|p| plugin_json(p)).collect::<Json>(),
        "failures": registry.failures.iter().map(failure).collect::<Json>(),
        "searched": registry.searched.iter().map(place).collect::<Json>(),
    })
}

fn plugin_json(plugin: &Plugin) -> Json {
    json!({
        "path": plugin.path, "sha256": plugin.sha256, "in_worker": plugin.is_apart(), "manifest": plugin.manifest,
    })
}

fn inspect(args: &InspectArgs) -> Result<u8> {
    let path = PathBuf::from(&args.name);
    let is_file = path.is_file();
    let registry = if is_file {
        // Alone, so that a file can be looked at where another plugin has its name.
        Registry::of_file(&path)
    } else {
        args.place.registry()
    };
    if let Some(failure) = registry.failures.iter().find(|_| is_file) {
        eprintln!("error: {} is not used: {}", shown(&path), failure.reason);
        return Ok(FAILED);
    }
    let found = if is_file { wholes(&registry) } else { find(&registry, &args.name, None) };
    if found.is_empty() {
        let hint = nearest_name(&args.name, &registry).map(|n| format!("; did you mean `{n}`?"));
        let hint = hint.unwrap_or_default();
        eprintln!("error: there is no plugin, component or library file `{}`{hint}", args.name);
        return Ok(WRONG);
    }
    if args.json {
        let all: Vec<Json> = found.iter().map(|(p, components)| found_json(p, components)).collect();
        print(&format!("{:#}\n", Json::from(all)))?;
    } else {
        print(&found.iter().map(|(p, components)| inspect_text(p, components)).collect::<String>())?;
    }
    Ok(0)
}

type Found = (Arc<Plugin>, Vec<Component>);

/// All plugins, each with all its components.
fn wholes(registry: &Registry) -> Vec<Found> {
    registry.plugins.iter().map(|p| (p.clone(), p.manifest.components.clone())).collect()
}

/// The name of a plugin or component that is nearest to one that is not there.
fn nearest_name(name: &str, registry: &Registry) -> Option<String> {
    let full = name.contains('/');
    let ids = registry.components().map(|(p, c)| if full { p.full_name(&c.id) } else { c.id.clone() });
    let names: Vec<String> = ids.chain(registry.plugins.iter().map(|p| p.manifest.name.clone())).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    nearest(name, &names).map(String::from)
}

/// A plugin with all its components, or those components that have the name.
fn find(registry: &Registry, name: &str, file: Option<PathBuf>) -> Vec<Found> {
    let file = file.and_then(|f| f.canonicalize().ok());
    let whole = registry.plugins.iter().find(|p| match &file {
        Some(file) => p.path.canonicalize().ok().as_ref() == Some(file),
        None => p.manifest.name == name,
    });
    let id = name.split_once('/').map_or(name, |(_, id)| id);
    let owner = name.split_once('/').map(|(plugin, _)| plugin);
    let mut found: Vec<Found> =
        whole.map(|p| (p.clone(), p.manifest.components.clone())).into_iter().collect();
    for plugin in &registry.plugins {
        let fits = owner.is_none_or(|o| o == plugin.manifest.name) && file.is_none();
        let components: Vec<Component> =
            plugin.manifest.components.iter().filter(|c| fits && c.id == id).cloned().collect();
        let already = whole.is_some_and(|w| Arc::ptr_eq(w, plugin));
        if !components.is_empty() && !already {
            found.push((plugin.clone(), components));
        }
    }
    found
}

fn found_json(plugin: &Plugin, components: &[Component]) -> Json {
    let mut all = plugin_json(plugin);
    all["manifest"]["components"] = json!(components);
    for (i, component) in components.iter().enumerate().filter(|(_, c)| c.kind == Kind::Model) {
        let component_json = &mut all["manifest"]["components"][i];
        match plugin.devices(component) {
            Ok(devices) => component_json["devices"] = json!(devices),
            Err(e) => component_json["devices_not_known"] = json!(format!("{e:#}")),
        }
    }
    all
}

fn inspect_text(plugin: &Plugin, components: &[Component]) -> String {
    let m = &plugin.manifest;
    let abi = m.abi.map(|n| n.to_string()).join(".");
    let mut out = format!(
        "{} {}  {}\n  library  {}\n  sha256   {}\n  built    lacuna-sdk {}, border {abi}\n",
        m.name,
        m.version,
        m.description,
        shown(&plugin.path),
        plugin.sha256,
        m.sdk
    );
    for c in components {
        let _ = write!(out, "\n{} {}\n  {}\n", c.kind, c.id, c.doc);
        if let Some(capabilities) = c.capabilities.as_object() {
            for (key, value) in capabilities.iter().filter(|(_, v)| !v.is_null() && **v != json!("")) {
                let _ = writeln!(out, "    {:<16} {}", key.replace('_', " "), plain(value));
            }
        }
        out += &parameters_text(&c.parameters);
        // Why it is not known, as where a model cannot be made without parameters.
        let devices = match c.kind {
            Kind::Model => plugin.devices(c).unwrap_or_else(|e| vec![format!("not known: {e:#}")]),
            _ => vec![],
        };
        if !devices.is_empty() {
            let _ = write!(out, "  devices on this machine\n    {}\n", devices.join("\n    "));
        }
    }
    out
}

fn parameters_text(schema: &Json) -> String {
    let Some(properties) = schema["properties"].as_object().filter(|p| !p.is_empty()) else {
        return "  no parameters\n".into();
    };
    let mut out = String::from("  parameters\n");
    for (name, p) in properties {
        let default = p.get("default").map_or("left out".into(), plain);
        let _ = writeln!(out, "    {name} = {default}   {}", type_text(p));
        let _ = writeln!(out, "      {}", p["description"].as_str().unwrap_or_default());
        let words = p["enum"].as_array().zip(p["enumDescriptions"].as_array());
        for (word, doc) in words.into_iter().flat_map(|(w, d)| w.iter().zip(d)) {
            let _ = writeln!(out, "      {}: {}", plain(word), doc.as_str().unwrap_or_default());
        }
    }
    out
}

fn type_text(p: &Json) -> String {
    let kind = match p["type"].as_str() {
        Some("array") => return format!("list of {}", type_text(&p["items"])),
        Some("string") if p["format"] == "path" => "file",
        Some("string") if p["enum"].is_array() => return "one of:".into(),
        Some("string") => "text",
        Some("integer") => "whole number",
        Some(other) => other,
        None => "",
    };
    match range_in_words(p) {
        words if words == "a number" => kind.into(),
        words => format!("{kind}, {words}"),
    }
}

fn plain(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
