//! A library's file, and the copy of it that is opened: what runs is what was hashed and looked at, whatever happens
//! to the file meanwhile.

use super::load::sha256;
use super::probe::{cache_dir, probe};
use super::trust::others_can_change;
use std::fs::{self, File};
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A library that was read.
#[derive(Debug, Clone)]
pub struct Library {
    /// Where the user has it; what messages name.
    pub path: PathBuf,
    /// What is opened.
    pub opened: PathBuf,
    /// The hash of what was read, in hex.
    pub sha256: String,
}

/// A copy that nobody opened for so long is removed: who builds a plugin leaves one for each build.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

impl Library {
    /// The library at a path, where these bytes were read. The file itself is opened.
    pub fn of(path: &Path, bytes: &[u8]) -> Self {
        Self { path: path.to_path_buf(), opened: path.to_path_buf(), sha256: sha256(bytes) }
    }

    /// The same, but a copy in the cache folder is opened. Without a usable cache folder, or where the library looks
    /// for others beside itself, it is the file itself.
    pub fn copied(self, bytes: &[u8]) -> Self {
        let Some(folder) = cache_dir().filter(|_| !looks_beside_itself(bytes)) else { return self };
        match copy(&folder.join("plugins"), &self, bytes) {
            Ok(opened) => Self { opened, ..self },
            Err(e) => {
                tracing::debug!("{} is opened itself, not a copy: {e}", self.path.display());
                self
            }
        }
    }

    /// Tries it out in child processes. The error is the end of a sentence about it.
    pub fn probe(&self) -> std::result::Result<(), String> {
        probe(&self.opened, &self.sha256).map_err(|reason| self.told(&reason))
    }

    /// A reason as the user knows the file: the dynamic linker names the one that it opened.
    pub fn told(&self, reason: &str) -> String {
        reason.replace(&*self.opened.to_string_lossy(), &self.path.to_string_lossy())
    }
}

/// Whether it asks the dynamic linker for libraries beside it, which a copy elsewhere would not have.
fn looks_beside_itself(bytes: &[u8]) -> bool {
    let words: [&[u8]; 3] = [b"$ORIGIN", b"${ORIGIN}", b"@loader_path"];
    let begins = |at: usize| words.iter().any(|word| bytes[at..].starts_with(word));
    (0..bytes.len()).any(|at| matches!(bytes[at], b'$' | b'@') && begins(at))
}

/// The copy of a library in a folder, named by its hash. One that is there is used if it has that hash.
fn copy(folder: &Path, library: &Library, bytes: &[u8]) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    check_folder(folder)?;
    let ending = library.path.extension().unwrap_or(std::env::consts::DLL_EXTENSION.as_ref());
    let copy = folder.join(&library.sha256).with_extension(ending);
    if !is_whole(&copy, library) {
        remove_old(folder);
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.persist(&copy)?;
    }
    if !is_whole(&copy, library) {
        return Err(Error::other(format!("{} does not hold what was written", copy.display())));
    }
    // It was used today.
    let _ = File::options().append(true).open(&copy).and_then(|file| file.set_modified(SystemTime::now()));
    copy.canonicalize()
}

fn is_whole(copy: &Path, library: &Library) -> bool {
    fs::read(copy).is_ok_and(|bytes| sha256(&bytes) == library.sha256)
        && others_can_change(copy, &[]).is_none()
}

/// A folder that others can write to makes no library safer, and from some no library can be opened.
fn check_folder(folder: &Path) -> Result<()> {
    if let Some(why) = others_can_change(folder, &[]) {
        return Err(Error::other(format!("{}: {why}", folder.display())));
    }
    #[cfg(target_os = "linux")]
    if rustix::fs::statvfs(folder)?.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Err(Error::other(format!("nothing in {} can be executed", folder.display())));
    }
    Ok(())
}

fn remove_old(folder: &Path) {
    let is_old = |path: &PathBuf| {
        let modified = fs::metadata(path).and_then(|m| m.modified());
        modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT))
    };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for old in entries.flatten().map(|entry| entry.path()).filter(is_old) {
        let _ = fs::remove_file(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_after_it_was_hashed_is_not_what_is_opened() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("plugin.so");
        fs::write(&path, "what was looked at").unwrap();
        let library = Library::of(&path, &fs::read(&path).unwrap());
        let copy = copy(cache.path(), &library, b"what was looked at").unwrap();
        fs::write(&path, "something else").unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"what was looked at");
        assert_eq!(copy.file_name().unwrap().to_str().unwrap(), format!("{}.so", library.sha256));
        // A file that is opened itself, and is another by then, is not loaded.
        assert!(library.load().is_err());
    }

    #[test]
    fn a_copy_that_was_changed_is_made_anew() {
        let cache = tempfile::tempdir().unwrap();
        let library = Library::of(Path::new("plugin.so"), b"bytes");
        let first = copy(cache.path(), &library, b"bytes").unwrap();
        fs::write(&first, "changed").unwrap();
        assert_eq!(copy(cache.path(), &library, b"bytes").unwrap(), first);
        assert_eq!(fs::read(&first).unwrap(), b"bytes");
        // Bytes of another hash are never taken for it.
        fs::remove_file(&first).unwrap();
        assert!(copy(cache.path(), &library, b"other").is_err());
    }

    #[test]
    fn copies_of_long_ago_are_removed() {
        let cache = tempfile::tempdir().unwrap();
        let make = |bytes: &[u8]| copy(cache.path(), &Library::of(Path::new("p.so"), bytes), bytes).unwrap();
        let (old, new) = (make(b"old"), make(b"new"));
        let long_ago = SystemTime::now() - KEPT - Duration::from_secs(60);
        File::options().append(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        let newest = make(b"newest");
        assert_eq!([&old, &new, &newest].map(|path| path.exists()), [false, true, true]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_anybody_can_write_to_holds_no_copies() {
        use std::os::unix::fs::PermissionsExt;
        let cache = tempfile::tempdir().unwrap();
        fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let library = Library::of(Path::new("plugin.so"), b"bytes");
        let error = copy(cache.path(), &library, b"bytes").unwrap_err().to_string();
        assert!(error.contains("any user can change it"), "{error}");
    }

    #[test]
    fn reasons_name_the_file_that_the_user_has() {
        let library =
            Library { opened: PathBuf::from("/cache/0123.so"), ..Library::of(Path::new("my.so"), b"") };
        assert_eq!(library.told("/cache/0123.so: undefined symbol: x"), "my.so: undefined symbol: x");
    }

    #[test]
    fn a_library_with_others_beside_it_stays_where_it_is() {
        let library = Library::of(Path::new("plugin.so"), b"x$ORIGIN/libs");
        assert_eq!(library.copied(b"x$ORIGIN/libs").opened, Path::new("plugin.so"));
    }
}
