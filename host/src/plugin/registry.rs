//! All plugins that loaded, and what did not load, with the reason.

use super::discover::{Candidate, Origin, SearchPath, candidates, search_paths};
use super::inspect::{Refusal, inspect};
use super::library::Library;
use super::load::{Plugin, load_apart, load_command};
use super::manifest::{Component, Kind};
use super::trust::Trust;
use super::worker::Program;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that was looked at and is not used.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The file.
    pub path: PathBuf,
    /// Why it was looked at.
    pub origin: Origin,
    /// Why it is not used: the end of a sentence about it.
    pub reason: String,
}

/// Loaded plugins, and what was looked at besides.
#[derive(Default)]
pub struct Registry {
    /// What loaded, by name.
    pub plugins: Vec<Arc<Plugin>>,
    /// What did not.
    pub failures: Vec<Failure>,
    /// What is not used without being at fault: copies, and other programs' libraries beside the executable.
    pub passed_over: Vec<Failure>,
    /// Where it was looked.
    pub searched: Vec<SearchPath>,
    trust: Trust,
}

/// Why a component was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// No plugin has it; the names of those of the right kind.
    Unknown(Vec<String>),
    /// Several plugins have it; their full names.
    Ambiguous(Vec<String>),
    /// It is of another kind.
    OtherKind(Kind),
}

impl Registry {
    /// Looks in all places and loads what can be loaded; what the pipeline trusts runs in this process.
    pub fn load(named: &[Program], options: &[PathBuf], project: Option<&Path>, trust: &Trust) -> Self {
        let (mut libraries, mut commands) = (vec![], vec![]);
        for program in named {
            match program {
                Program::Library(path) => libraries.push(path.clone()),
                Program::Command(words, folder) => commands.push((words, folder)),
            }
        }
        let searched = search_paths(&libraries, options, project);
        let mut registry = Self { searched, trust: trust.clone(), ..Self::default() };
        let mut loaded: Vec<(Origin, Arc<Plugin>)> = vec![];
        registry.try_libraries(&mut loaded);
        for (words, folder) in commands {
            let (result, shown) = (load_command(words, folder), words.join(" "));
            registry.keep(result, shown.as_ref(), Origin::Named, &mut loaded);
        }
        registry.keep_unique(&loaded);
        registry.plugins.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
        registry
    }

    /// Tries each file in the places that are searched, once.
    fn try_libraries(&mut self, loaded: &mut Vec<(Origin, Arc<Plugin>)>) {
        let mut seen: Vec<PathBuf> = vec![];
        let all: Vec<Candidate> = self.searched.iter().flat_map(candidates).collect();
        for candidate in all {
            let canonical = candidate.path.canonicalize().unwrap_or_else(|_| candidate.path.clone());
            if seen.contains(&canonical) {
                let reason = format!("it is the same file as {}", canonical.display());
                self.pass_over(&candidate.path, candidate.origin, reason);
            } else {
                seen.push(canonical);
                self.try_candidate(candidate, loaded);
            }
        }
    }

    /// Loads one library and nothing else.
    pub fn of_file(path: &Path) -> Self {
        let (mut registry, mut loaded) = (Self::default(), vec![]);
        if path.is_file() && path.extension().is_some_and(|e| e == "py") {
            // Absolute, as it has to be found whatever folder it runs in.
            let script = path.canonicalize().unwrap_or_else(|_| path.into());
            let folder = script.parent().unwrap_or(Path::new("/")).to_path_buf();
            let words = ["python3".to_string(), script.to_string_lossy().into_owned()];
            registry.keep(load_command(&words, &folder), path, Origin::Named, &mut loaded);
        } else {
            registry.try_candidate(Candidate { path: path.into(), origin: Origin::Named }, &mut loaded);
        }
        registry.plugins = loaded.into_iter().map(|(_, plugin)| plugin).collect();
        registry
    }

    fn try_candidate(
        &mut self,
        Candidate { path, origin }: Candidate,
        loaded: &mut Vec<(Origin, Arc<Plugin>)>,
    ) {
        match load_checked(&path, origin, &self.trust) {
            // Beside the executable there may be libraries of any sort.
            Err(Refusal::NotAPlugin(reason)) if origin == Origin::Executable && !is_named_as_ours(&path) => {
                self.pass_over(&path, origin, super::one_line(&reason));
            }
            result => self.keep(result.map_err(Refusal::reason), &path, origin, loaded),
        }
    }

    fn keep(
        &mut self,
        result: Result<Plugin, String>,
        path: &Path,
        origin: Origin,
        loaded: &mut Vec<(Origin, Arc<Plugin>)>,
    ) {
        let same = |plugin: &Plugin| loaded.iter().find(|(_, p)| p.sha256 == plugin.sha256);
        match result {
            // The same file in two places is one plugin.
            Ok(plugin) if let Some((_, first)) = same(&plugin) => {
                self.pass_over(path, origin, format!("it is a copy of {}", first.path.display()));
            }
            Ok(plugin) => loaded.push((origin, Arc::new(plugin))),
            Err(reason) => {
                let reason = super::one_line(&reason);
                self.failures.push(Failure { path: path.to_path_buf(), origin, reason });
            }
        }
    }

    fn pass_over(&mut self, path: &Path, origin: Origin, reason: String) {
        self.passed_over.push(Failure { path: path.to_path_buf(), origin, reason });
    }

    /// Of several plugins with one name none is used: which one was meant is not known.
    fn keep_unique(&mut self, loaded: &[(Origin, Arc<Plugin>)]) {
        for (origin, plugin) in loaded {
            let name = &plugin.manifest.name;
            let twin = loaded.iter().find(|(_, p)| p.manifest.name == *name && p.path != plugin.path);
            match twin {
                None => self.plugins.push(plugin.clone()),
                Some((_, twin)) => self.failures.push(Failure {
                    path: plugin.path.clone(),
                    origin: *origin,
                    reason: format!("it is named `{name}`, and so is {}: remove one", twin.path.display()),
                }),
            }
        }
    }

    /// Finds a component by `plugin/component`, or by `component` where that is unique among these kinds.
    pub fn find(&self, reference: &str, kinds: &[Kind]) -> Result<(Arc<Plugin>, Component), LookupError> {
        let (plugin_name, id) = match reference.split_once('/') {
            Some((plugin, id)) => (Some(plugin), id),
            None => (None, reference),
        };
        let named: Vec<_> = self
            .components()
            .filter(|(p, c)| c.id == id && plugin_name.is_none_or(|n| n == p.manifest.name))
            .collect();
        let mut fitting = named.iter().filter(|(_, c)| kinds.contains(&c.kind));
        match (fitting.next(), fitting.next(), named.first()) {
            (Some((plugin, component)), None, _) => Ok(((*plugin).clone(), (*component).clone())),
            (Some(_), Some(_), _) => {
                let names = named.iter().filter(|(_, c)| kinds.contains(&c.kind));
                Err(LookupError::Ambiguous(
                    names.map(|(p, c)| format!("{}/{}", p.manifest.name, c.id)).collect(),
                ))
            }
            (None, _, Some((_, other))) => Err(LookupError::OtherKind(other.kind.clone())),
            (None, _, None) => Err(LookupError::Unknown(self.names(kinds))),
        }
    }

    /// What did not load, when a reference was not found: the failure that speaks of its plugin, or the first.
    pub fn failure_behind(&self, reference: &str) -> Option<String> {
        let plugin = reference.split('/').next().unwrap_or_default();
        let speaks_of_it =
            |f: &&Failure| f.reason.contains(plugin) || f.path.to_string_lossy().contains(plugin);
        let failure = self.failures.iter().find(speaks_of_it).or(self.failures.first())?;
        let said = format!("{} did not load: {}", failure.path.display(), failure.reason);
        Some(match self.failures.len() {
            1 => said,
            n => format!("{said}; {} more: see `lacuna plugin list`", n - 1),
        })
    }

    /// All components with their plugins.
    pub fn components(&self) -> impl Iterator<Item = (&Arc<Plugin>, &Component)> {
        self.plugins.iter().flat_map(|p| p.manifest.components.iter().map(move |c| (p, c)))
    }

    /// The ids of all components of these kinds.
    pub fn names(&self, kinds: &[Kind]) -> Vec<String> {
        let mut names: Vec<String> =
            self.components().filter(|(_, c)| kinds.contains(&c.kind)).map(|(_, c)| c.id.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Whether the file's name says that it is meant to be one of our plugins.
fn is_named_as_ours(path: &Path) -> bool {
    let prefix = format!("{}lacuna_", std::env::consts::DLL_PREFIX);
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
}

/// What is shipped beside the executable, or named by the lock file, runs in this process; all else in a worker.
fn load_checked(path: &Path, origin: Origin, trust: &Trust) -> Result<Plugin, Refusal> {
    let unusable = Refusal::Unusable;
    let bytes = std::fs::read(path).map_err(|e| unusable(format!("it cannot be read ({e})")))?;
    inspect(path, &bytes)?;
    let shipped = origin == Origin::Executable;
    let library = Library::of(path, &bytes);
    let locked = trust.locked.contains(&library.sha256);
    trust.check(path, shipped, locked).map_err(unusable)?;
    let library = if shipped { library } else { library.copied(&bytes) };
    library.probe().map_err(unusable)?;
    let loaded = if shipped || locked { library.load() } else { load_apart(&library) };
    loaded.map_err(unusable)
}
