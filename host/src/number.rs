//! Numbers for people: three significant digits, whatever their size.

/// Digits that say something.
const DIGITS: i32 = 3;

/// `0.000812`, `12.3`, `45678`, `8.12e-7`; a dash where there is no value.
pub fn shown(x: f64) -> String {
    if !x.is_finite() {
        return "–".into();
    }
    if x == 0.0 {
        return "0".into();
    }
    // Rounded first: 9.996 is 10.0, not 10.00.
    let rounded = format!("{x:.*e}", DIGITS as usize - 1);
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    match exponent {
        // Digits before the point are never taken away.
        -5..9 => format!("{x:.*}", (DIGITS - 1 - exponent).max(0) as usize),
        _ => rounded,
    }
}

/// A share as `12.3 %`.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{} %", shown(100.0 * share)) } else { shown(share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_say_something_whatever_the_size() {
        for (x, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.25, "0.250"),
            (-0.123_456, "-0.123"),
            (0.000_812_34, "0.000812"),
            (0.000_099_96, "0.000100"),
            (0.000_012_345, "0.0000123"),
            (8.1234e-7, "8.12e-7"),
            (-5e-324, "-4.94e-324"),
            (9.996, "10.0"),
            (12.345, "12.3"),
            (99.96, "100"),
            (-1234.5, "-1234"),
            (45_678.9, "45679"),
            (1.234_56e12, "1.23e12"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(shown(x), expected, "{x:e}");
        }
    }

    #[test]
    fn shares_are_percents() {
        for (share, expected) in [
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.9876, "98.8 %"),
            (0.000_05, "0.00500 %"),
            (1e-9, "1.00e-7 %"),
            (-0.5, "-50.0 %"),
            (12.0, "1200 %"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(percent(share), expected);
        }
    }
}
