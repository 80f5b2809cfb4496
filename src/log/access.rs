//! The line of a request, made by hand so that it looks as if `tracing` had made it: same order,
//! same quoting, in text and in JSON.

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
        let frame = form.frame();
        out.extend_from_slice(frame.time);
        stamp.write(now, out);
        let mut line = Line { frame, out };
        line.text(frame.id, self.id);
        if let Some(client) = self.client {
            line.address(frame.client, client);
        }
        line.text(frame.method, self.method);
        line.text(frame.path, self.path);
        line.word(frame.kind, self.kind);
        line.number(frame.status, self.status.into());
        line.number(frame.bytes, self.bytes);
        line.word(frame.whole, if self.whole { "true" } else { "false" });
        line.number(frame.first_byte, self.first_byte.as_micros() as u64);
        line.number(frame.total, self.total.as_micros() as u64);
        line.word(frame.how, self.how);
        for (name, said) in [(frame.why, self.why), (frame.slow, self.slow)] {
            if let Some(said) = said {
                line.text(name, said);
            }
        }
        line.word(frame.end, "");
    }
}

/// What stands in every line of a form. Each part ends the value before it, closing its quotes, and
/// leads up to the first character of its own: a line is made of few pieces, and fast.
struct Frame {
    time: &'static [u8],
    id: &'static [u8],
    client: &'static [u8],
    method: &'static [u8],
    path: &'static [u8],
    kind: &'static [u8],
    status: &'static [u8],
    bytes: &'static [u8],
    whole: &'static [u8],
    first_byte: &'static [u8],
    total: &'static [u8],
    how: &'static [u8],
    why: &'static [u8],
    slow: &'static [u8],
    end: &'static [u8],
    /// A text in quotes, with whatever is odd in it made harmless.
    escaped: fn(&str) -> String,
}

const TEXT: Frame = Frame {
    time: b"",
    id: b"  INFO narwharf::access: id=\"",
    client: b"\" client=\"",
    method: b"\" method=\"",
    path: b"\" path=\"",
    kind: b"\" kind=\"",
    status: b"\" status=",
    bytes: b" bytes=",
    whole: b" whole=",
    first_byte: b" first_byte_us=",
    total: b" total_us=",
    how: b" how=\"",
    why: b"\" why=\"",
    slow: b"\" slow=\"",
    end: b"\"\n",
    escaped: |said| format!("{said:?}"),
};

const COLOURED: Frame = Frame {
    time: b"\x1b[2m",
    id: b"\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2mnarwharf::access\x1b[0m\x1b[2m:\x1b[0m id=\"",
    ..TEXT
};

const JSON: Frame = Frame {
    time: b"{\"timestamp\":\"",
    id: b"\",\"level\":\"INFO\",\"id\":\"",
    client: b"\",\"client\":\"",
    method: b"\",\"method\":\"",
    path: b"\",\"path\":\"",
    kind: b"\",\"kind\":\"",
    status: b"\",\"status\":",
    bytes: b",\"bytes\":",
    whole: b",\"whole\":",
    first_byte: b",\"first_byte_us\":",
    total: b",\"total_us\":",
    how: b",\"how\":\"",
    why: b"\",\"why\":\"",
    slow: b"\",\"slow\":\"",
    end: b"\",\"target\":\"narwharf::access\"}\n",
    escaped: |said| serde_json::Value::from(said).to_string(),
};

impl Form {
    fn frame(self) -> &'static Frame {
        match self {
            Self::Text => &TEXT,
            Self::Coloured => &COLOURED,
            Self::Json => &JSON,
        }
    }
}

/// A line so far, to which values are appended.
struct Line<'a> {
    frame: &'static Frame,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    /// Nearly always there is nothing to escape.
    fn text(&mut self, before: &'static [u8], said: &str) {
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        // All of them are looked at, since to stop at the first odd one is slower.
        if said.bytes().fold(true, |so_far, byte| so_far & plain(byte)) {
            return self.word(before, said);
        }
        let escaped = (self.frame.escaped)(said);
        self.word(before, &escaped[1..escaped.len() - 1]);
    }

    /// What has nothing to escape.
    fn word(&mut self, before: &'static [u8], said: &str) {
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(said.as_bytes());
    }

    fn number(&mut self, before: &'static [u8], number: u64) {
        self.word(before, itoa::Buffer::new().format(number));
    }

    /// By way of `Display` it cost more than all other values together.
    fn address(&mut self, before: &'static [u8], address: IpAddr) {
        match address {
            IpAddr::V4(four) => {
                let mut before = before;
                for octet in four.octets() {
                    self.number(before, octet.into());
                    before = b".";
                }
            }
            IpAddr::V6(six) => self.word(before, &six.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
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
