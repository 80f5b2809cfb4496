//! Numbers as people read them, on the front page and in the terminal. `http/pages/home.js` has the
//! same four, for the numbers that change.

/// `1,234,567`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12 B`, `3.4 KiB`, …, in steps of 1024.
pub fn bytes(number: u64) -> String {
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// `42.0 %`
pub fn share(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// `5 s`, `3 min 20 s`, `4 h 3 min`, `12 d 5 h`: the two largest units.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(21_474_836_480)],
            ["0 B", "1023 B", "1.0 KiB", "20.0 GiB"]
        );
        assert_eq!(
            [share(0.0), share(0.987_65), share(1.0)],
            ["0.0 %", "98.8 %", "100.0 %"]
        );
        assert_eq!(
            [
                duration(59),
                duration(200),
                duration(14_580),
                duration(1_054_800)
            ],
            ["59 s", "3 min 20 s", "4 h 3 min", "12 d 5 h"]
        );
    }
}
