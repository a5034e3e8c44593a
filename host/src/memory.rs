//! Memory: what processes use, what is free, and how much of it a run may take.

use std::path::{Path, PathBuf};

/// The share of the free memory that a run takes when nothing else is said.
const SHARE: f64 = 0.6;
/// What is taken for free where the system does not say.
const UNKNOWN: u64 = 4 << 30;
/// A run with less could not hold a block of cells.
const LEAST: u64 = 1_000_000;

const UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// The most that this process has used, in bytes.
pub fn peak() -> Option<u64> {
    of("self", "VmHWM:")
}

/// Lets [`peak`] begin anew. Where the system cannot, it goes on from the most so far.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// What a process uses now, in bytes.
pub fn resident(process: u32) -> Option<u64> {
    of(&process.to_string(), "VmRSS:")
}

fn of(process: &str, what: &str) -> Option<u64> {
    kib(&std::fs::read_to_string(format!("/proc/{process}/status")).ok()?, what)
}

/// A line such as `MemAvailable:   1234 kB`, in bytes.
fn kib(text: &str, what: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(what))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes as people write them: `4GB`, `500 MiB`, `1.5 GB`, or a number of bytes.
///
/// # Errors
/// When it is no such text, or too little to work with.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let expected = || format!("expected an amount of memory such as \"4 GB\" or \"500 MiB\", found {text:?}");
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = (text[..split].trim(), text[split..].to_ascii_lowercase());
    let factor = match unit.as_str() {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?.1,
    };
    let is_plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| is_plain).ok_or_else(expected)?;
    let bytes = number * factor as f64;
    // More than there can be is all there is.
    if bytes < LEAST as f64 {
        return Err(format!("expected at least 1 MB of memory, found {text:?}"));
    }
    Ok(bytes as u64)
}

/// Bytes for people: `1.6 GB`.
pub fn shown(bytes: u64) -> String {
    let (unit, factor) = match bytes {
        0..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    };
    format!("{:.1} {unit}", bytes as f64 / factor)
}

/// What a run may take when nothing else is said: 60 % of what is free, by the system and by the cgroups.
pub fn default() -> u64 {
    let system = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib(&text, "MemAvailable:"));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let free = free_in_cgroups(Path::new("/sys/fs/cgroup"), &groups).into_iter().chain(system).min();
    ((free.unwrap_or(UNKNOWN) as f64 * SHARE) as u64).max(LEAST)
}

/// The cgroups' limits minus what is used, where there are limits: of the process' own group and of those above it,
/// version 2 or 1. The page cache counts as used; that errs on the safe side.
fn free_in_cgroups(root: &Path, groups: &str) -> Option<u64> {
    let mut free = vec![];
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (base, limit, usage) = match controllers {
            "" => (root.to_path_buf(), "memory.max", "memory.current"),
            c if c.split(',').any(|c| c == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        let own: PathBuf = base.join(path.trim_start_matches('/'));
        let number = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let of_group = |group: &Path| {
            Some(number(group.join(limit))?.saturating_sub(number(group.join(usage)).unwrap_or(0)))
        };
        // In a container the path is the host's, and the root the container's own.
        free.extend(own.ancestors().take_while(|group| group.starts_with(&base)).filter_map(of_group));
    }
    free.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        let read = |text: &str| parse(text).unwrap();
        assert_eq!([read("4GB"), read("4 GB"), read("1.5 gib")], [4_000_000_000, 4_000_000_000, 3 << 29]);
        assert_eq!([read("2000000"), read("500 MiB")], [2_000_000, 500 << 20]);
        for wrong in ["", "GB", "four GB", "4 GO", "-4 GB", "1e3 GB", "nan", "4 GB GB", "infinity"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("such as \"4 GB\"") && error.ends_with(&format!("{wrong:?}")), "{error}");
        }
        assert!(parse("100 kB").unwrap_err().contains("at least 1 MB"));
        assert_eq!([shown(1_600_000_000), shown(52_000)], ["1.6 GB", "52.0 kB"]);
    }

    #[test]
    fn the_tightest_cgroup_decides() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("job/memory.max", "1000\n");
        write("job/memory.current", "400\n");
        write("job/step/memory.max", "max\n");
        assert_eq!(free_in_cgroups(root.path(), "0::/job/step\n"), Some(600));
        assert_eq!(free_in_cgroups(root.path(), "0::/other\n"), None);
        write("memory/a/memory.limit_in_bytes", "900\n");
        write("memory/a/memory.usage_in_bytes", "950\n");
        assert_eq!(free_in_cgroups(root.path(), "3:cpu:/a\n4:memory:/a\n"), Some(0));
    }

    #[test]
    fn there_is_some_memory() {
        assert!(default() >= LEAST && peak().unwrap() > 0);
    }
}
