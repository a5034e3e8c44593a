//! A run's folder: one run at a time, each file whole or not there, finished steps kept.

use super::family::{Labels, folder};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a run, locked as long as this lives.
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

/// What is known of a finished step: its key, what it gave, and its files.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Record {
    /// Hash of everything that decides the output.
    pub key: String,
    /// Hash of the content of each port.
    pub ports: BTreeMap<String, String>,
    /// The files that were written.
    pub files: Vec<FileRecord>,
    /// What the step warned of.
    pub warnings: Vec<String>,
    /// What the step says of its output, for the report.
    pub summary: Json,
}

/// One file of a step.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct FileRecord {
    /// Relative to the step's folder, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Hash of its content.
    pub blake3: String,
}

/// In the folder of a step at work: what its plugins keep for themselves until it is finished.
pub const SCRATCH: &str = ".scratch";
/// The file of a step's record.
pub const RECORD: &str = "step.json";
const LOCK: &str = "lacuna.lock";

/// Up to so many bytes of a finished step are read again to see that nobody changed them; of more only the sizes.
const MOST_HASHED: u64 = 256 << 20;

impl RunDir {
    /// Makes or opens the folder and locks it.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path.join("steps"))
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        let lock = path.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.with_context(|| format!("cannot make {}", lock.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another run is at work in {}: wait for it, or choose another folder with --run-dir",
                path.display()
            ),
            Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", lock.display())),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a member of a step's family keeps its output.
    pub fn step(&self, step: &str, labels: &Labels) -> StepDir {
        StepDir::of(&self.path, step, labels)
    }

    /// Removes a file of the run, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove {}", self.path.join(name).display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file of the run as a whole.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.path.join(name), bytes)
    }
}

/// The folder of one member of a step. Work goes on in `….part`; it is renamed when all is there.
pub struct StepDir {
    /// The folder when it is finished.
    pub done: PathBuf,
}

impl StepDir {
    /// Where a member of a step's family keeps its output in the folder of a run.
    pub fn of(run: &Path, step: &str, labels: &Labels) -> Self {
        let folder_name = folder(labels);
        let done = run.join("steps").join(step);
        Self { done: if folder_name.is_empty() { done } else { done.join(folder_name) } }
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        let mut name = self.done.file_name().unwrap_or_default().to_os_string();
        name.push(suffix);
        self.done.with_file_name(name)
    }

    /// The folder while the step works.
    pub fn part(&self) -> PathBuf {
        self.sibling(".part")
    }

    /// The record of a finished step, if its files are as it says.
    pub fn finished(&self) -> Option<Record> {
        self.recover();
        self.recorded()
    }

    /// The same, and nothing in the folder is touched.
    pub fn recorded(&self) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(self.done.join(RECORD)).ok()?).ok()?;
        let whole = |f: &FileRecord| fs::metadata(self.done.join(&f.path)).is_ok_and(|m| m.len() == f.bytes);
        let total: u64 = record.files.iter().map(|f| f.bytes).sum();
        let same = |f: &FileRecord| hash_file(&self.done.join(&f.path)).is_ok_and(|hash| hash == f.blake3);
        let as_written =
            record.files.iter().all(whole) && (total > MOST_HASHED || record.files.iter().all(same));
        as_written.then_some(record)
    }

    /// A kill between two renames leaves the old output aside: it is put back, or away.
    fn recover(&self) {
        let old = self.sibling(".old");
        if old.exists() {
            let _ = if self.done.exists() { fs::remove_dir_all(&old) } else { fs::rename(&old, &self.done) };
        }
    }

    /// Begins, or goes on where a killed run of the same key left.
    pub fn begin(&self, key: &str) -> Result<PathBuf> {
        let part = self.part();
        let mark = part.join(".key");
        if fs::read_to_string(&mark).ok().as_deref() != Some(key) {
            if part.exists() {
                fs::remove_dir_all(&part).with_context(|| format!("cannot clear {}", part.display()))?;
            }
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
            write_atomically(&mark, key.as_bytes())?;
        }
        Ok(part)
    }

    /// Lists and hashes the files, writes the record, and puts the folder in its place.
    ///
    /// Ports without a digest get one of the files' content and of `code`, what reads them.
    pub fn finish(&self, mut record: Record, code: &str) -> Result<Record> {
        let part = self.part();
        fs::remove_file(part.join(".key")).context("cannot finish the step")?;
        let scratch = part.join(SCRATCH);
        if scratch.exists() {
            fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
        }
        record.files = list_files(&part)?;
        let own: String = record.files.iter().map(|f| format!("{} {}\n", f.path, f.blake3)).collect();
        let own = blake3::hash((own + code).as_bytes()).to_hex().to_string();
        record.ports.values_mut().filter(|digest| digest.is_empty()).for_each(|digest| *digest = own.clone());
        write_atomically(&part.join(RECORD), &json_bytes(&serde_json::to_value(&record)?)?)?;
        let old = self.sibling(".old");
        let place = || format!("cannot put {} in place", self.done.display());
        if self.done.exists() {
            fs::rename(&self.done, &old).with_context(place)?;
        }
        fs::rename(&part, &self.done).with_context(place)?;
        if let Some(parent) = self.done.parent() {
            sync_dir(parent);
        }
        if old.exists() {
            fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        Ok(record)
    }
}

/// All files below a folder, by name, synced to disk and hashed.
fn list_files(root: &Path) -> Result<Vec<FileRecord>> {
    let mut files = vec![];
    let mut folders = vec![root.to_path_buf()];
    while let Some(dir) = folders.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = File::open(&path)?;
            file.sync_all().with_context(|| format!("cannot write {}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(FileRecord {
                path: relative,
                bytes: file.metadata()?.len(),
                blake3: hash_file(&path)?,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// BLAKE3 of a file's content, in hex.
pub fn hash_file(path: &Path) -> Result<String> {
    let place = || format!("cannot read {}", path.display());
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path).with_context(place)?, &mut hasher).with_context(place)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A file and its hash, or a folder's files, by name, with theirs.
pub fn hashed_files(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        let place = || format!("cannot read the folder {}", path.display());
        let entries = fs::read_dir(path).with_context(place)?;
        files = entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().with_context(place)?;
        files.retain(|p| p.is_file());
        files.sort();
    }
    files.into_iter().map(|file| hash_file(&file).map(|hash| (file, hash))).collect()
}

/// Writes a file whole or not at all: temporary name, sync, rename.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    if let Some(parent) = path.parent() {
        sync_dir(parent);
    }
    Ok(())
}

/// A rename is on disk when its folder is. Not every file system can do that, which is no error.
fn sync_dir(path: &Path) {
    if let Ok(dir) = File::open(path) {
        let _ = dir.sync_all();
    }
}

/// JSON as it is written everywhere: indented, with a line end.
pub fn json_bytes(value: &Json) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str) -> Record {
        let ports = BTreeMap::from([("model".to_string(), String::new())]);
        Record { key: key.into(), ports, files: vec![], warnings: vec![], summary: Json::Null }
    }

    #[test]
    fn a_finished_step_is_found_again_and_a_damaged_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::open(root.path()).unwrap();
        let step = dir.step("model", &Labels::new());
        let part = step.begin("k1").unwrap();
        fs::write(part.join("weights"), "12345").unwrap();
        assert!(step.finished().is_none());
        let written = step.finish(record("k1"), "").unwrap();
        assert_eq!(step.finished(), Some(written.clone()));
        assert_eq!(written.ports["model"].len(), 64);
        for damaged in ["123", "12346"] {
            fs::write(step.done.join("weights"), damaged).unwrap();
            assert!(step.finished().is_none(), "{damaged}");
        }
        fs::write(step.done.join("weights"), "12345").unwrap();
        assert_eq!(step.finished(), Some(written));
    }

    #[test]
    fn work_of_the_same_key_goes_on_and_of_another_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let step = RunDir::open(root.path()).unwrap().step("screen", &Labels::new());
        fs::write(step.begin("k1").unwrap().join("part-0"), "x").unwrap();
        assert!(step.begin("k1").unwrap().join("part-0").exists());
        assert!(!step.begin("k2").unwrap().join("part-0").exists());
    }

    #[test]
    fn a_kill_between_the_renames_loses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let step = RunDir::open(root.path()).unwrap().step("model", &Labels::new());
        step.begin("k1").unwrap();
        step.finish(record("k1"), "").unwrap();
        fs::rename(&step.done, step.sibling(".old")).unwrap();
        assert_eq!(step.finished().unwrap().key, "k1");
    }

    #[test]
    fn a_second_run_in_the_folder_is_told() {
        let root = tempfile::tempdir().unwrap();
        let first = RunDir::open(root.path()).unwrap();
        let error = RunDir::open(root.path()).err().unwrap().to_string();
        assert!(error.starts_with("another run is at work in"), "{error}");
        drop(first);
        assert!(RunDir::open(root.path()).is_ok());
    }
}
