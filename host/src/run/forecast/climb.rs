//! From trials on ever more of the work to the whole of it.

/// Trials whose times differ by this tell how time grows.
const ENOUGH: f64 = 1.0;
/// What can be finished within this is finished.
const PATIENCE: f64 = 4.0;
/// After this no further trial is begun.
const MOST: f64 = 7.0;
/// How much larger the next trial is, at least and at most.
const GROWTH: (f64, f64) = (4.0, 16.0);

/// What a trial took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// How much of the work it was: cells, or units of effort.
    pub units: u64,
    /// What the needs grow with: pairs, or the same units.
    pub size: f64,
    /// Time.
    pub seconds: f64,
    /// The most memory meanwhile, in bytes, where the system says so.
    pub memory: Option<u64>,
    /// Bytes of files.
    pub disk: u64,
}

/// How much is tried next, of `whole`; nothing when enough is known.
///
/// Preparation may take most of a trial, and noise may hide the rest: then the next one is so much larger that it is seen.
pub fn next(tried: &[Taken], whole: u64) -> Option<u64> {
    let last = tried.last()?;
    let spent: f64 = tried.iter().map(|t| t.seconds).sum();
    if last.units >= whole {
        return None;
    }
    // What does not grow with the work is taken to grow: the whole is tried where it is short all the same.
    if spent + last.seconds * whole as f64 / last.units.max(1) as f64 <= PATIENCE {
        return Some(whole);
    }
    let grown = before(tried).map_or(0.0, |before| last.seconds - before.seconds);
    let (least, most) = GROWTH;
    // Of the first trial nobody knows how much of it was preparation.
    let more = if tried.len() < 2 { least } else { (ENOUGH / grown.max(1e-3)).clamp(least, most) };
    (grown < ENOUGH && spent < MOST).then(|| ((last.units.max(1) as f64 * more) as u64).min(whole))
}

/// The fastest of the smaller trials than the last one: what slows a trial is noise, or the first use of something.
fn before(tried: &[Taken]) -> Option<&Taken> {
    let last = tried.last()?;
    tried.iter().filter(|t| t.size < last.size).min_by(|a, b| a.seconds.total_cmp(&b.seconds))
}

/// Time, memory and bytes of files for work of this size, in proportion to what the last trial added to smaller ones.
pub fn extrapolate(tried: &[Taken], size: f64) -> Option<(f64, Option<u64>, u64)> {
    let last = tried.last()?;
    let line = |from: Option<&Taken>, of: &dyn Fn(&Taken) -> f64| match from {
        Some(from) => {
            let slope = (of(last) - of(from)) / (last.size - from.size);
            of(last) + slope.max(0.0) * (size - last.size)
        }
        // All of it may grow, or nothing: halfway between the two, as ratios go.
        None => of(last) * (size / last.size.max(1.0)).sqrt(),
    };
    let nearest = tried.iter().rev().find(|t| t.size < last.size);
    // Over the widest span, since memory that was given back late blurs it.
    let wide = tried.first().filter(|first| first.size < last.size);
    let memory = |last: u64| match wide {
        Some(_) => line(wide, &|t| t.memory.unwrap_or(last) as f64) as u64,
        None => last,
    };
    let disk = line(nearest, &|t| t.disk as f64) as u64;
    Some((line(before(tried), &|t| t.seconds), last.memory.map(memory), disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(units: u64, seconds: f64) -> Taken {
        Taken { units, size: 10.0 * units as f64, seconds, memory: Some(1000 + 2 * units), disk: 50 + units }
    }

    #[test]
    fn what_is_short_is_finished_and_what_is_long_is_tried_until_enough_is_known() {
        assert_eq!(next(&[taken(16, 0.01)], 600), Some(600));
        assert_eq!(next(&[taken(16, 0.01), taken(600, 0.2)], 600), None);
        assert_eq!(next(&[taken(1, 0.02)], 5000), Some(4));
        assert_eq!(next(&[taken(16, 0.3), taken(64, 1.1)], 5000), Some(256));
        assert_eq!(next(&[taken(16, 0.3), taken(64, 1.4)], 5000), None);
        // Where preparation or noise hides the work, more of it is tried, but not for ever.
        assert_eq!(next(&[taken(1, 0.9), taken(4, 0.95)], 5000), Some(64));
        assert_eq!(next(&[taken(1, 2.0), taken(4, 0.9)], 5000), Some(64));
        assert_eq!(next(&[taken(1, 4.0), taken(4, 3.9)], 5000), None);
        assert_eq!(next(&[taken(16, 5.0)], 5000), Some(64));
        assert_eq!(next(&[taken(16, 7.5)], 5000), None);
        assert_eq!(next(&[], 5), None);
    }

    #[test]
    fn what_does_not_grow_is_counted_once() {
        let tried = [taken(1, 2.0), taken(4, 2.3), taken(16, 3.5)];
        let (seconds, memory, disk) = extrapolate(&tried, 10_000.0).unwrap();
        assert!((seconds - (3.5 + 984.0 * 0.1)).abs() < 1e-9, "{seconds}");
        assert_eq!((memory, disk), (Some(1000 + 2000), 50 + 1000));
        // One slow trial among them changes little.
        let tried = [taken(1, 2.0), taken(4, 9.0), taken(16, 3.5)];
        let slow = extrapolate(&tried, 10_000.0).unwrap().0;
        assert!((slow - (3.5 + 984.0 * 0.1)).abs() < 1e-9, "{slow}");
    }

    #[test]
    fn one_trial_alone_is_taken_to_grow_by_half_and_noise_never_shrinks() {
        let (seconds, memory, disk) = extrapolate(&[taken(10, 2.0)], 10_000.0).unwrap();
        assert_eq!((seconds, memory, disk), (20.0, Some(1020), 600));
        assert_eq!(extrapolate(&[taken(1, 2.0), taken(2, 1.0)], 100.0).unwrap().0, 1.0);
        assert_eq!(extrapolate(&[], 1.0), None);
    }
}
