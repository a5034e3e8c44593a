//! Where plugins are looked for. Never the current folder by accident.

use std::path::{Path, PathBuf};

/// Why a place is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `[plugins.NAME] path = …` of the pipeline, or a file named on the command line.
    Named,
    /// `--plugin-dir`.
    Option,
    /// The folder `plugins` beside the pipeline.
    Project,
    /// The folder of the executable, and `plugins` in it.
    Executable,
    /// The user's data folder.
    User,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Named => "named in the pipeline",
            Self::Option => "--plugin-dir",
            Self::Project => "beside the pipeline",
            Self::Executable => "beside the executable",
            Self::User => "user folder",
        })
    }
}

/// A place to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    /// A folder, or a file for [`Origin::Named`].
    pub path: PathBuf,
    /// Why it is searched.
    pub origin: Origin,
}

impl SearchPath {
    /// Why nothing can be found there, in a few words.
    pub fn trouble(&self) -> Option<&'static str> {
        let is_folder = self.path.is_dir();
        match self.origin {
            _ if !self.path.exists() => Some("not there"),
            Origin::Named => is_folder.then_some("not a file"),
            _ if !is_folder => Some("not a folder"),
            _ => std::fs::read_dir(&self.path).is_err().then_some("cannot be read"),
        }
    }
}

/// A file that may be a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// Why it was looked at.
    pub origin: Origin,
}

/// All places, in order, for a pipeline in `project` (if there is one).
pub fn search_paths(named: &[PathBuf], options: &[PathBuf], project: Option<&Path>) -> Vec<SearchPath> {
    let place = |path: PathBuf, origin| SearchPath { path, origin };
    let mut places: Vec<SearchPath> = named.iter().map(|p| place(p.clone(), Origin::Named)).collect();
    places.extend(options.iter().map(|p| place(p.clone(), Origin::Option)));
    places.extend(project.map(|p| place(p.join("plugins"), Origin::Project)));
    let exe = std::env::current_exe().and_then(|e| e.canonicalize());
    if let Some(folder) = exe.ok().as_deref().and_then(Path::parent) {
        places.push(place(folder.to_path_buf(), Origin::Executable));
        places.push(place(folder.join("plugins"), Origin::Executable));
    }
    places.extend(user_folder().map(|p| place(p, Origin::User)));
    places
}

fn user_folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = var("XDG_DATA_HOME").or_else(|| var("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("lacuna").join("plugins"))
}

/// The libraries in a place, by name. A folder that does not exist holds none.
pub fn candidates(place: &SearchPath) -> Vec<Candidate> {
    let candidate = |path| Candidate { path, origin: place.origin };
    if place.origin == Origin::Named {
        return vec![candidate(place.path.clone())];
    }
    let Ok(entries) = std::fs::read_dir(&place.path) else { return vec![] };
    // A link that leads nowhere was meant to be one; a folder was not.
    let is_file = |p: &PathBuf| p.is_file() || p.is_symlink() && !p.exists();
    let is_library = |p: &PathBuf| p.to_string_lossy().ends_with(std::env::consts::DLL_SUFFIX) && is_file(p);
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_library).collect();
    files.sort();
    files.into_iter().map(candidate).collect()
}
