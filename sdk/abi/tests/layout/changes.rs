//! What has changed from one layout to another, and whether libraries that are built already still load.

use crate::text::GROWS;
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

/// What has changed.
#[derive(Default)]
pub struct Changes {
    /// What makes libraries that are built already no longer load.
    pub breaking: Vec<String>,
    /// What was added where something may be.
    pub added: Vec<String>,
}

impl Changes {
    /// Compares two layouts, type by type.
    pub fn between(written: &str, found: &str) -> Self {
        let (written, mut found) = (types(written), types(found));
        let mut changes = Self::default();
        for (name, lines) in written {
            match found.remove(name) {
                Some(now) => changes.of_type(name, &lines, &now),
                None => changes.breaking.push(format!("{name}: it is gone")),
            }
        }
        // It is reached through something that was added, or through something that has changed, which is told.
        changes.added.extend(found.keys().map(|name| format!("{name}: it is new")));
        changes
    }

    /// The earlier lines have to come first, each as it was.
    fn of_type(&mut self, name: &str, before: &[&str], now: &[&str]) {
        let said = |line: &&str, what: &str| format!("{name}: `{}` {what}", line.trim());
        if let Some(more) = now.strip_prefix(before) {
            let grows = before.iter().any(|line| line.trim() == GROWS);
            let (place, what) = if grows { (&mut self.added, "is new") } else { (&mut self.breaking, NEW) };
            place.extend(more.iter().map(|line| said(line, what)));
            return;
        }
        let told = self.breaking.len();
        self.breaking
            .extend(before.iter().filter(|line| !now.contains(line)).map(|line| said(line, "is gone")));
        self.breaking.extend(now.iter().filter(|line| !before.contains(line)).map(|line| said(line, NEW)));
        if self.breaking.len() == told {
            self.breaking.push(format!("{name}: its lines stand in another order"));
        }
    }
}

const NEW: &str = "is new, where nothing may be";

/// The lines of each type by the line with its name, which is not indented.
fn types(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with(' ') {
            all.entry(name).or_default().push(line);
        } else {
            name = line;
            all.entry(name).or_default();
        }
    }
    all
}

impl Display for Changes {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "the border is not as sdk/abi/layout.txt has it (docs/border.md says what may change)")?;
        tell(f, BREAKING, &self.breaking)?;
        tell(f, ADDED, &self.added)?;
        write!(f, "BLESS=1 cargo test -p lacuna-abi writes it anew")
    }
}

fn tell(f: &mut Formatter<'_>, what: &str, changes: &[String]) -> Result {
    if !changes.is_empty() {
        writeln!(f, "{what}")?;
    }
    changes.iter().try_for_each(|change| writeln!(f, "  {change}"))
}

const BREAKING: &str =
    "BREAKING: libraries that are built already would not load. The border is frozen, so BLESS=1 refuses it.";
const ADDED: &str = "ADDED, which is allowed: ABI_MINOR + 1, and the same version of the crate lacuna-abi.";

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "# words\nA\n    x: u8\n    y: u16\n\nB\n    first: fn()\n    (may grow at its end)\n";

    fn changes(from: &str, to: &str) -> (Vec<String>, Vec<String>) {
        let changes = Changes::between(BEFORE, &BEFORE.replace(from, to));
        (changes.breaking, changes.added)
    }

    #[test]
    fn what_is_removed_changed_moved_or_put_between_breaks() {
        assert_eq!(changes("# words", "# other words"), (vec![], vec![]));
        let breaks = |from, to, expected: &[&str]| {
            let (breaking, added) = changes(from, to);
            assert_eq!((breaking, added.len()), (expected.iter().map(|&e| e.into()).collect(), 0));
        };
        breaks("    y: u16\n", "", &["A: `y: u16` is gone"]);
        breaks("y: u16", "y: u32", &["A: `y: u16` is gone", "A: `y: u32` is new, where nothing may be"]);
        breaks(
            "    x: u8\n    y: u16\n",
            "    y: u16\n    x: u8\n",
            &["A: its lines stand in another order"],
        );
        breaks("    y: u16\n", "    y: u16\n    z: u8\n", &["A: `z: u8` is new, where nothing may be"]);
        breaks("    (may", "    second: fn()\n    (may", &["B: `second: fn()` is new, where nothing may be"]);
        breaks("A\n    x: u8\n    y: u16\n", "", &["A: it is gone"]);
    }

    #[test]
    fn what_is_marked_so_grows_at_its_end() {
        let (breaking, added) = changes("end)\n", "end)\n    second: fn()\nC\n    x: u8\n");
        assert_eq!(
            (breaking.len(), added),
            (0, vec!["B: `second: fn()` is new".into(), "C: it is new".into()])
        );
    }
}
