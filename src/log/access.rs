//! The line of a request, made by hand so that it looks as if `tracing` had made it: same order,
//! same quoting, in text and in JSON.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::config::LogFormat;

use super::lines::Writer;
use super::stamp::Stamp;

/// What `log.level` calls these lines; they are of level `info`.
const TARGET: &str = "narwharf::access";

/// Where it is told what became of a request, if anywhere.
#[derive(Debug, Clone)]
pub struct Access {
    lines: Option<Open>,
    #[cfg(feature = "otel")]
    spans: Option<std::sync::Arc<super::Spans>>,
}

#[derive(Debug, Clone)]
struct Open {
    writer: Writer,
    form: Form,
    all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// On a terminal, with the colours of all other lines.
    Coloured,
    Json,
}

/// A request that is over.
#[derive(Debug)]
pub struct Entry<'a> {
    pub id: &'a str,
    /// `None`: it came by a unix socket.
    pub client: Option<IpAddr>,
    pub method: &'a str,
    pub path: &'a str,
    pub kind: &'static str,
    /// 0: the client left before there was an answer.
    pub status: u16,
    /// Of the body, handed to the connection.
    pub bytes: u64,
    /// Whether that is all that was promised.
    pub whole: bool,
    /// From the request's head to the answer's.
    pub first_byte: Duration,
    pub total: Duration,
    pub how: &'static str,
    /// Why it was refused.
    pub why: Option<&'a str>,
    /// What it waited for, where it waited for long.
    pub slow: Option<&'static str>,
}

impl Access {
    /// A log that nobody keeps.
    pub fn nowhere() -> Self {
        Self {
            lines: None,
            #[cfg(feature = "otel")]
            spans: None,
        }
    }

    /// `all`: not only the slow ones.
    pub fn new(writer: Writer, format: LogFormat, coloured: bool, all: bool) -> Self {
        let form = match format {
            LogFormat::Json => Form::Json,
            LogFormat::Text if coloured => Form::Coloured,
            LogFormat::Text => Form::Text,
        };
        let mut access = Self::nowhere();
        access.lines = Some(Open { writer, form, all });
        access
    }

    /// A collector hears of every request too, whether or not it gets a line.
    #[cfg(feature = "otel")]
    pub fn and_to(mut self, spans: Option<super::Spans>) -> Self {
        self.spans = spans.map(std::sync::Arc::new);
        self
    }

    /// Writes the line of a request, if there is to be one.
    pub fn write(&self, entry: &Entry<'_>) {
        #[cfg(feature = "otel")]
        if let Some(spans) = &self.spans {
            spans.tell(entry);
        }
        let Some(Open { writer, form, all }) = &self.lines else {
            return;
        };
        if (*all || entry.slow.is_some()) && tracing::enabled!(target: TARGET, Level::INFO) {
            let now = SystemTime::now();
            writer.append(false, |out, stamp| entry.line(now, *form, stamp, out));
        }
    }
}

impl Entry<'_> {
    fn line(&self, now: SystemTime, form: Form, stamp: &mut Stamp, out: &mut Vec<u8>) {
        let (before_time, after_time, first) = match form {
            Form::Text => ("", "  INFO narwharf::access: ", "id="),
            Form::Coloured => (
                "\x1b[2m",
                "\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2mnarwharf::access\x1b[0m\x1b[2m:\x1b[0m ",
                "id=",
            ),
            Form::Json => ("{\"timestamp\":\"", "\",\"level\":\"INFO\"", ",\"id\":"),
        };
        out.extend_from_slice(before_time.as_bytes());
        stamp.write(now, out);
        out.extend_from_slice(after_time.as_bytes());
        out.extend_from_slice(first.as_bytes());
        let mut fields = Fields { form, out };
        fields.quote(self.id);
        if let Some(client) = self.client {
            fields.name("client");
            fields.address(client);
        }
        fields.text("method", self.method);
        fields.text("path", self.path);
        fields.word("kind", self.kind);
        fields.number("status", self.status.into());
        fields.number("bytes", self.bytes);
        fields.name("whole");
        let whole: &[u8] = if self.whole { b"true" } else { b"false" };
        fields.out.extend_from_slice(whole);
        fields.number("first_byte_us", self.first_byte.as_micros() as u64);
        fields.number("total_us", self.total.as_micros() as u64);
        fields.word("how", self.how);
        for (name, said) in [("why", self.why), ("slow", self.slow)] {
            if let Some(said) = said {
                fields.text(name, said);
            }
        }
        let end: &[u8] = match form {
            Form::Text | Form::Coloured => b"\n",
            Form::Json => b",\"target\":\"narwharf::access\"}\n",
        };
        out.extend_from_slice(end);
    }
}

/// A line so far, to which fields are appended.
struct Fields<'a> {
    form: Form,
    out: &'a mut Vec<u8>,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Text | Form::Coloured => (b" ", b"="),
            Form::Json => (b",\"", b"\":"),
        };
        for part in [before, name.as_bytes(), after] {
            self.out.extend_from_slice(part);
        }
    }

    fn text(&mut self, name: &str, said: &str) {
        self.name(name);
        self.quote(said);
    }

    /// A word of our own, which has nothing to escape.
    fn word(&mut self, name: &str, said: &'static str) {
        self.name(name);
        self.quoted(said);
    }

    /// By way of `Display` it cost more than all other fields together.
    fn address(&mut self, address: IpAddr) {
        self.out.push(b'"');
        match address {
            IpAddr::V4(four) => {
                for (at, octet) in four.octets().into_iter().enumerate() {
                    if at > 0 {
                        self.out.push(b'.');
                    }
                    self.digits(octet.into());
                }
            }
            IpAddr::V6(six) => {
                // Writing into memory does not fail.
                let _ = write!(self.out, "{six}");
            }
        }
        self.out.push(b'"');
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.digits(number);
    }

    fn digits(&mut self, number: u64) {
        let mut digits = itoa::Buffer::new();
        self.out.extend_from_slice(digits.format(number).as_bytes());
    }

    fn quoted(&mut self, said: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(said.as_bytes());
        self.out.push(b'"');
    }

    /// Nearly always there is nothing to escape, and both forms are the same.
    fn quote(&mut self, said: &str) {
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        // All of them are looked at, since to stop at the first odd one is slower.
        if said.bytes().fold(true, |so_far, byte| so_far & plain(byte)) {
            return self.quoted(said);
        }
        // Writing into memory does not fail.
        let _ = match self.form {
            Form::Text | Form::Coloured => write!(self.out, "{said:?}"),
            Form::Json => serde_json::to_writer(&mut *self.out, said).map_err(Into::into),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::UNIX_EPOCH;

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::Writer as TimeWriter;
    use tracing_subscriber::fmt::time::FormatTime;

    use super::*;

    const TIME: &str = "2026-11-22T18:48:12.052907Z";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    struct Always;

    impl FormatTime for Always {
        fn format_time(&self, out: &mut TimeWriter<'_>) -> std::fmt::Result {
            out.write_str(TIME)
        }
    }

    fn by_hand(entry: &Entry<'_>, form: Form) -> String {
        let (mut stamp, mut out) = (Stamp::default(), Vec::new());
        let now = UNIX_EPOCH + Duration::from_micros(1_795_373_292_052_907);
        entry.line(now, form, &mut stamp, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn by_tracing(entry: &Entry<'_>, form: Form) -> String {
        let kept = Kept::default();
        let lines = tracing_subscriber::fmt()
            .with_timer(Always)
            .with_writer(kept.clone());
        let say = || {
            tracing::info!(
                target: TARGET,
                id = entry.id,
                client = entry.client.map(|client| client.to_string()),
                method = entry.method,
                path = entry.path,
                kind = entry.kind,
                status = entry.status,
                bytes = entry.bytes,
                whole = entry.whole,
                first_byte_us = entry.first_byte.as_micros() as u64,
                total_us = entry.total.as_micros() as u64,
                how = entry.how,
                why = entry.why,
                slow = entry.slow,
            );
        };
        match form {
            Form::Json => {
                let lines = lines.json().flatten_event(true).finish();
                tracing::subscriber::with_default(lines, say);
            }
            Form::Text | Form::Coloured => {
                tracing::subscriber::with_default(lines.with_ansi(false).finish(), say);
            }
        }
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    fn entries() -> Vec<Entry<'static>> {
        let plain = Entry {
            id: "5d5c5b1f-1a",
            client: Some([10, 0, 207, 7].into()),
            method: "GET",
            path: "/0c2sx4hd0v9yq6gf6v0f5wx0gl3i2c8j.narinfo",
            kind: "narinfo",
            status: 200,
            bytes: 512,
            whole: true,
            first_byte: Duration::from_micros(18),
            total: Duration::from_micros(23),
            how: "hit",
            why: None,
            slow: None,
        };
        let odd = Entry {
            client: None,
            path: "/a\"b\\c\u{1b}[0m\n\u{e9}\u{7f}",
            status: 0,
            bytes: u64::MAX,
            whole: false,
            total: Duration::ZERO,
            why: Some("no such path: \"x\"\ttry /nix-cache-info"),
            slow: Some("the bucket"),
            ..plain
        };
        let six = Entry {
            client: Some("2001:db8::1".parse().unwrap()),
            ..plain
        };
        vec![plain, odd, six]
    }

    #[test]
    fn a_line_is_the_one_that_tracing_would_have_written() {
        for entry in &entries() {
            for form in [Form::Text, Form::Json] {
                assert_eq!(by_hand(entry, form), by_tracing(entry, form));
            }
        }
    }

    #[test]
    fn colours_are_all_that_a_terminal_gets_more() {
        for entry in &entries() {
            let coloured = by_hand(entry, Form::Coloured);
            let mut plain = coloured.clone();
            for colour in ["\x1b[0m", "\x1b[2m", "\x1b[32m"] {
                plain = plain.replace(colour, "");
            }
            assert_eq!(plain, by_hand(entry, Form::Text));
            assert!(coloured.starts_with("\x1b[2m2026-"));
        }
    }
}
