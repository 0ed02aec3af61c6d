//! Rates and sizes, and numbers as people read them.

use std::time::Duration;

/// A rate; 0 where nothing was done or no time passed.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// A size in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A number: grouped from a thousand on, with four significant digits below.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 999.5 {
        return grouped(value);
    }
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let digits_before = if value.abs() < 1.0 { 0 } else { value.abs().log10() as usize + 1 };
    format!("{value:.0$}", 4_usize.saturating_sub(digits_before).min(3))
}

/// A number with its unit; of bytes the largest of which there is one at least.
pub(crate) fn with_unit(value: f64, unit: &str) -> String {
    if unit == "bytes" && value.abs() >= 10_240.0 {
        let (divisor, unit) = binary_unit(value.abs());
        return format!("{:.1} {unit}", value / divisor);
    }
    match unit {
        "" => number(value),
        "/s" => format!("{}/s", number(value)),
        _ => format!("{} {unit}", number(value)),
    }
}

/// How many bytes the unit has in which so many are best told, and its name.
pub(crate) fn binary_unit(bytes: f64) -> (f64, &'static str) {
    const KIB: f64 = 1024.0;
    match bytes {
        _ if bytes >= KIB * KIB * KIB => (KIB * KIB * KIB, "GiB"),
        _ if bytes >= KIB * KIB => (KIB * KIB, "MiB"),
        _ if bytes >= KIB => (KIB, "KiB"),
        _ => (1.0, "bytes"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits_or_groups() {
        let texts = [0.0, 0.001_234, 0.5, 3.751_9, 47.25, 999.4, 999.7, 1000.0, 1_234_567.8, -12_345.0, 5.0];
        assert_eq!(
            texts.map(number),
            ["0", "0.001", "0.500", "3.752", "47.25", "999.4", "1,000", "1,000", "1,234,568", "-12,345", "5"]
        );
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        assert_eq!(with_unit(500.0, "bytes"), "500 bytes");
        assert_eq!(with_unit(2048.0 * 1024.0, "bytes"), "2.0 MiB");
        assert_eq!(with_unit(-20.0 * 1024.0, "bytes"), "-20.0 KiB");
        assert_eq!(with_unit(1500.0, "/s"), "1,500/s");
        assert_eq!(with_unit(1.5, "ms"), "1.500 ms");
    }
}
