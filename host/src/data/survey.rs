//! What one pass over a matrix tells of it.

use super::Csr;
use blake3::Hasher;

/// The genes that each cell expresses, counted, and a hash of all values.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// How many genes each cell expresses.
    pub expressed: Vec<u32>,
    /// A hash of values, columns and offsets, in hex, whatever the blocks that they came in.
    pub digest: String,
}

/// A survey under way.
#[derive(Default)]
pub struct Surveyor {
    expressed: Vec<u32>,
    values: Hasher,
    columns: Hasher,
}

impl Survey {
    /// Nothing is known.
    pub fn begin() -> Surveyor {
        Surveyor::default()
    }
}

impl Surveyor {
    /// Adds the next rows.
    pub fn add(&mut self, x: &Csr) {
        self.expressed.extend((0..x.n_rows()).map(|i| x.range(i).len() as u32));
        update(&mut self.values, &x.values, f32::to_le_bytes);
        update(&mut self.columns, &x.indices, u32::to_le_bytes);
    }

    /// All rows were added.
    pub fn finish(self) -> Survey {
        let mut whole = Hasher::new();
        update(&mut whole, &self.expressed, u32::to_le_bytes);
        for part in [self.values, self.columns] {
            whole.update(part.finalize().as_bytes());
        }
        Survey { digest: whole.finalize().to_hex().to_string(), expressed: self.expressed }
    }
}

fn update<T: Copy>(hasher: &mut Hasher, values: &[T], bytes: impl Fn(T) -> [u8; 4]) {
    let mut buffer = Vec::with_capacity(1 << 16);
    for chunk in values.chunks(1 << 14) {
        buffer.clear();
        chunk.iter().for_each(|&value| buffer.extend_from_slice(&bytes(value)));
        hasher.update(&buffer);
    }
}
