//! The time of a line, as `tracing` writes it: `2026-11-22T18:48:12.052907Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Characters up to the second.
const WHOLE: usize = "2026-11-22T18:48:12".len();

/// The text of the last second asked for: most lines fall into the same one.
#[derive(Debug, Default)]
pub struct Stamp {
    second: u64,
    text: String,
}

impl Stamp {
    /// Appends a time, to the microsecond.
    pub fn write(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            let whole = UNIX_EPOCH + Duration::from_secs(self.second);
            self.text = humantime::format_rfc3339_seconds(whole).to_string();
            self.text.truncate(WHOLE);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut fraction = *b".000000Z";
        let mut left = since.subsec_micros();
        for digit in fraction[1..7].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_to_the_microsecond_whatever_was_written_before() {
        let mut stamp = Stamp::default();
        for (micros, text) in [
            (1_795_373_292_052_907, "2026-11-22T18:48:12.052907Z"),
            (1_795_373_292_999_999, "2026-11-22T18:48:12.999999Z"),
            (1_795_373_293_000_000, "2026-11-22T18:48:13.000000Z"),
            (1_795_373_292_000_001, "2026-11-22T18:48:12.000001Z"),
            (0, "1970-01-01T00:00:00.000000Z"),
        ] {
            let mut out = Vec::new();
            stamp.write(UNIX_EPOCH + Duration::from_micros(micros), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
