//! The memory that processes use, where the system says so.

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
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
