//! Matrices in memory that the host and its workers share: files without a name in `/dev/shm`, where there is one.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Shared files, used again and again.
#[derive(Default, Clone)]
pub struct Pool(Arc<Mutex<Vec<Shared>>>);

/// A file that another process can open.
pub struct Shared {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Where nameless files cannot be opened by others, the file has a name, and goes with this.
    _named: Option<tempfile::TempPath>,
}

/// A shared file, in use. Goes back to its pool.
pub struct Lent {
    pool: Pool,
    shared: Option<Shared>,
}

impl Pool {
    /// A file with room for so many bytes.
    pub fn lend(&self, bytes: u64) -> Result<Lent> {
        let mut free = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let fitting = free.iter().position(|shared| shared.bytes >= bytes);
        let shared = match fitting {
            Some(at) => free.swap_remove(at),
            None => Shared::new(bytes).context("no shared memory for a plugin's worker")?,
        };
        Ok(Lent { pool: self.clone(), shared: Some(shared) })
    }
}

impl Deref for Lent {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        self.shared.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = self.pool.0.lock().unwrap_or_else(|e| e.into_inner());
        free.extend(self.shared.take());
    }
}

impl Shared {
    fn new(bytes: u64) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        // A container's share may be small: then a file on disk does, which is in the page cache as a rule.
        if memory.is_dir()
            && let Ok(shared) = Self::new_in(memory, bytes)
        {
            return Ok(shared);
        }
        Self::new_in(&std::env::temp_dir(), bytes)
    }

    fn new_in(folder: &Path, bytes: u64) -> Result<Self> {
        let (file, path, named) = open(folder)?;
        reserve(&file, bytes)?;
        Ok(Self { file, path, bytes, _named: named })
    }

    /// Where another process finds it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes from the start.
    pub fn write(&self, rows: &[&[f32]]) -> Result<()> {
        write_rows(&self.file, rows).context("cannot write to shared memory")
    }

    /// Reads from the start.
    pub fn read(&self, values: &mut [f32]) -> Result<()> {
        read_values(&self.file, values).context("cannot read shared memory")
    }
}

#[cfg(target_os = "linux")]
fn open(folder: &Path) -> Result<(File, PathBuf, Option<tempfile::TempPath>)> {
    use std::os::fd::AsRawFd;
    let file = tempfile::tempfile_in(folder)?;
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    Ok((file, path, None))
}

#[cfg(not(target_os = "linux"))]
fn open(folder: &Path) -> Result<(File, PathBuf, Option<tempfile::TempPath>)> {
    let (file, path) = tempfile::NamedTempFile::new_in(folder)?.into_parts();
    Ok((file, path.to_path_buf(), Some(path)))
}

/// Makes room, so that a lack of it shows now.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes.max(1))?)
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, bytes: u64) -> Result<()> {
    Ok(file.set_len(bytes)?)
}

/// Writes rows one after the other from the start of a file.
pub fn write_rows(mut file: &File, rows: &[&[f32]]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    rows.iter().try_for_each(|row| file.write_all(bytemuck::cast_slice(row)))
}

/// Reads values from the start of a file.
pub fn read_values(mut file: &File, values: &mut [f32]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(bytemuck::cast_slice_mut(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_opener_of_the_path_sees_the_values_and_files_are_used_again() {
        let pool = Pool::default();
        let lent = pool.lend(16).unwrap();
        lent.write(&[&[1.0, 2.0], &[3.0]]).unwrap();
        let other = File::options().read(true).write(true).open(lent.path()).unwrap();
        let mut values = [0.0; 3];
        read_values(&other, &mut values).unwrap();
        assert_eq!(values, [1.0, 2.0, 3.0]);
        write_rows(&other, &[&[9.0]]).unwrap();
        lent.read(&mut values).unwrap();
        assert_eq!(values, [9.0, 2.0, 3.0]);
        let path = lent.path().to_path_buf();
        drop(lent);
        assert_eq!(pool.lend(8).unwrap().path(), path);
        assert!(pool.lend(1 << 50).is_err());
    }
}
