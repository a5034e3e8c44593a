//! How many threads this process may use: the cgroup's and the scheduler's limit, not the node's size.

/// The variables in which batch schedulers say how many cores a job has on its node.
const SCHEDULERS: [&str; 5] = ["SLURM_CPUS_PER_TASK", "PBS_NCPUS", "NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS"];

/// Cores by affinity and cgroup quota (which the standard library reads), and by the batch scheduler.
pub fn available_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    limited(cores, |name| std::env::var(name).ok())
}

fn limited(cores: usize, variable: impl Fn(&str) -> Option<String>) -> usize {
    let granted =
        SCHEDULERS.iter().filter_map(|name| variable(name)?.parse::<usize>().ok()).filter(|&n| n > 0);
    granted.chain([cores]).min().unwrap_or(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_can_only_lower_the_number() {
        let slurm = |value: &'static str| {
            move |name: &str| (name == "SLURM_CPUS_PER_TASK").then(|| value.to_string())
        };
        assert_eq!(limited(8, slurm("4")), 4);
        assert_eq!(limited(8, slurm("64")), 8);
        assert_eq!(limited(8, slurm("0")), 8);
        assert_eq!(limited(8, slurm("many")), 8);
        assert_eq!(limited(8, |_| None), 8);
    }
}
