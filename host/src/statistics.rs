//! The statistics that several steps need: quantiles for intervals, of the normal distribution and of Student's, at 95 % and at
//! what several comparisons ask for; and false discovery rates.

/// The normal distribution's 97.5 % quantile.
pub const Z: f64 = 1.959_963_984_540_054;

/// Benjamini and Hochberg's adjusted p values: the smallest false discovery rate at which each is found.
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let mut least = 1f64;
    let mut adjusted = vec![0.0; p.len()];
    for (larger, i) in order.into_iter().enumerate() {
        least = least.min(p[i] * p.len() as f64 / (p.len() - larger) as f64);
        adjusted[i] = least;
    }
    adjusted
}

/// The share of a distribution beyond each end of a two-sided interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    tail: f64,
}

/// 95 %.
pub const PLAIN: Level = Level { tail: 0.025 };

impl Level {
    /// What so many models that are compared ask for (Bonferroni): the chance that any of them seems to differ, where none
    /// does, stays 5 %.
    pub fn of_models(n: usize) -> Self {
        Self { tail: 0.025 / n.max(1) as f64 }
    }

    /// Beyond each end.
    pub fn tail(self) -> f64 {
        self.tail
    }

    /// As people write it: `95 %`, `99.2 %`.
    pub fn shown(self) -> String {
        let percent = format!("{:.1}", 100.0 * (1.0 - 2.0 * self.tail));
        format!("{} %", percent.trim_end_matches(".0"))
    }

    /// The normal distribution's upper quantile.
    pub fn z(self) -> f64 {
        upper(40.0, |z| 0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2), self.tail)
    }

    /// Student's, with so many degrees of freedom; NaN for none.
    pub fn t(self, freedom: usize) -> f64 {
        if freedom == 0 { f64::NAN } else { upper(1e6, |t| (1.0 - within(t, freedom)) / 2.0, self.tail) }
    }
}

/// Where a falling function from 0 on reaches a value.
fn upper(most: f64, beyond: impl Fn(f64) -> f64, tail: f64) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if beyond(middle) > tail { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The chance of −t … t (Abramowitz & Stegun 26.7.3 and 26.7.4).
fn within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = if odd && freedom == 1 { 0.0 } else { term };
    let mut k = if odd { 3 } else { 2 };
    while k < freedom {
        term *= cosine * cosine * (k - 1) as f64 / k as f64;
        sum += term;
        k += 2;
    }
    if odd { std::f64::consts::FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // scipy.stats: norm.isf, t.isf.
        for (models, z) in [(1, 1.959_963_985), (5, 2.575_829_304), (20, 3.023_341_439)] {
            assert!((Level::of_models(models).z() - z).abs() < 1e-8, "{models}");
        }
        let cases = [
            (1, 1, 12.706_204_736),
            (1, 4, 2.776_445_105),
            (1, 7, 2.364_624_252),
            (5, 4, 4.604_094_871),
            (10, 5, 4.773_340_605),
            (10, 60, 2.914_552_624),
        ];
        for (models, freedom, t) in cases {
            let found = Level::of_models(models).t(freedom);
            assert!((found - t).abs() < 1e-6, "{models} {freedom}: {found}");
        }
        assert!(PLAIN.t(0).is_nan() && PLAIN == Level::of_models(1));
        assert_eq!((PLAIN.shown(), Level::of_models(4).shown()), ("95 %".into(), "98.8 %".into()));
    }
}
