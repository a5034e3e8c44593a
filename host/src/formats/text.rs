//! Text files, plain or gzipped, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use flate2::read::MultiGzDecoder;

const BUFFER: usize = 1 << 20;

/// Opens a file; gzip is told by its first bytes, not by the name.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 2];
    let zipped = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind()?;
    let file = BufReader::with_capacity(BUFFER, file);
    Ok(match zipped {
        true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
        false => Box::new(file),
    })
}

/// A file's lines, without their ends, and where they are.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens a file, plain or gzipped.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let reader = open(path).with_context(|| path.display().to_string())?;
        Ok(Self { path: path.into(), reader, line: vec![], number: 0 })
    }

    /// The next line; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        self.number += 1;
        let read = self.reader.read_until(b'\n', &mut self.line);
        let count = match read {
            Ok(count) => count,
            Err(cause) => return Err(anyhow!(cause).context(self.place("it is damaged or cut short"))),
        };
        if count == 0 {
            return Ok(None);
        }
        Ok(Some(self.line.trim_ascii_end()))
    }

    /// The next line as text.
    pub(super) fn next_text(&mut self) -> Result<Option<&str>> {
        if self.next()?.is_none() {
            return Ok(None);
        }
        let text = std::str::from_utf8(self.line.strip_suffix(b"\n").unwrap_or(&self.line));
        let text = text.map_err(|_| anyhow!(self.place("it is not UTF-8 text")))?;
        Ok(Some(text.strip_suffix('\r').unwrap_or(text)))
    }

    /// A problem with the line that was read last.
    pub(super) fn place(&self, problem: impl std::fmt::Display) -> String {
        format!("{}, line {}: {problem}", self.path.display(), self.number)
    }
}

/// All text of a file, without a byte order mark.
pub fn read_all(path: &Path) -> Result<String> {
    let mut bytes = vec![];
    open(path)?.read_to_end(&mut bytes).context("it is damaged or cut short")?;
    let mut text = String::from_utf8(bytes)
        .map_err(|e| anyhow!("it is not UTF-8 text: see byte {}", e.utf8_error().valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}
