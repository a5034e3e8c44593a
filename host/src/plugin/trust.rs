//! Who could have changed a library. What anybody can write to is not loaded; what belongs to somebody else only when
//! the pipeline's lock file says which bytes are meant.

use std::path::{Path, PathBuf};

/// Which libraries a pipeline trusts beside those that are shipped with Lacuna.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The hashes (SHA-256, in hex) that its lock file names.
    pub locked: Vec<String>,
    /// Whether libraries of any owner are looked at, so that a lock file can be made that names them.
    pub any_owner: bool,
}

impl Trust {
    /// Whether a library may be loaded: one that is shipped beside the executable, that the lock file names, or any.
    ///
    /// # Errors
    /// Why not: the end of a sentence about it.
    pub fn check(&self, path: &Path, shipped: bool, locked: bool) -> Result<(), String> {
        // Whoever has installed the executable could have changed that as well.
        let installer = if shipped { owner_of_executable() } else { None };
        let owners: Vec<u32> = installer.into_iter().collect();
        for place in places(path) {
            let is_file = place == path;
            let subject = if is_file { "it".to_string() } else { format!("its folder {}", place.display()) };
            match others_can_change(&place, &owners) {
                None => {}
                Some(Why::Anybody) => {
                    let mend = format!("`chmod o-w '{}'` mends that", place.display());
                    return Err(format!("any user can change {subject}: {mend}"));
                }
                Some(Why::Owner(_)) if locked || self.any_owner => {}
                Some(Why::Owner(owner)) => {
                    return Err(format!(
                        "{subject} belongs to user {owner}, neither to you nor to root: \
                         `lacuna lock PIPELINE` makes a pipeline trust the library as it is now"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The file, and the folders that it lies in: as it is named, and where a link leads.
fn places(path: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_path_buf),
    };
    let mut places = vec![path.to_path_buf()];
    places.extend(folder(path));
    places.extend(path.canonicalize().ok().as_deref().and_then(folder));
    places
}

/// How somebody else can change a file or what lies in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Anybody may write to it.
    Anybody,
    /// It belongs to this user.
    Owner(u32),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anybody => f.write_str("any user can change it"),
            Self::Owner(owner) => write!(f, "it belongs to user {owner}"),
        }
    }
}

/// That anybody can change a file, and what mends that: a sentence.
pub fn anybody_can_change(path: &Path) -> Option<String> {
    let path = path.display();
    let why = others_can_change(path.to_string().as_ref(), &[]);
    (why == Some(Why::Anybody))
        .then(|| format!("any user can change {path}: `chmod o-w '{path}'` mends that"))
}

/// How somebody else than root, this user and these owners can change a file, or replace what lies in a folder.
/// A file that is not there can be changed by nobody.
#[cfg(unix)]
pub fn others_can_change(path: &Path, owners: &[u32]) -> Option<Why> {
    use std::os::unix::fs::MetadataExt;
    const ROOT: u32 = 0;
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let about = path.metadata().ok()?;
    // In a folder with the sticky bit, as /tmp has it, only its owner can replace a file.
    let guarded = about.is_dir() && about.mode() & STICKY != 0;
    if about.mode() & OTHERS_WRITE != 0 && !guarded {
        return Some(Why::Anybody);
    }
    let known = [ROOT, rustix::process::getuid().as_raw()];
    let ours = known.contains(&about.uid()) || owners.contains(&about.uid());
    (!ours).then_some(Why::Owner(about.uid()))
}

#[cfg(not(unix))]
pub fn others_can_change(_path: &Path, _owners: &[u32]) -> Option<Why> {
    None
}

#[cfg(unix)]
fn owner_of_executable() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::env::current_exe().and_then(std::fs::metadata).ok().map(|about| about.uid())
}

#[cfg(not(unix))]
fn owner_of_executable() -> Option<u32> {
    None
}
