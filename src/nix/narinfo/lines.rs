//! The lines of a narinfo, before any field means anything.
//!
//! Nix parses by position: a name ends at the first colon and the value starts two bytes after it,
//! whatever the byte between. So `References:` without its space swallows the next line, and
//! `Name:value` loses a letter. We ask for the form that all versions read alike.

use std::ops::Range;

use super::NarinfoError;

/// One `Name: value` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Counted from 1, for messages.
    pub number: usize,
    pub name: &'a str,
    pub value: &'a str,
    /// Where the line lies in the text, in bytes, its newline included.
    pub span: Range<usize>,
}

/// The lines of `text` in order. An item is an error where the text is no sequence of lines.
pub fn lines(text: &str) -> impl Iterator<Item = Result<Line<'_>, NarinfoError>> {
    let mut start = 0;
    text.split_inclusive('\n')
        .enumerate()
        .map(move |(at, whole)| {
            let span = start..start + whole.len();
            start = span.end;
            read(at + 1, whole, span)
        })
}

fn read(number: usize, whole: &str, span: Range<usize>) -> Result<Line<'_>, NarinfoError> {
    let line = whole
        .strip_suffix('\n')
        .ok_or(NarinfoError::Unterminated { line: number })?;
    if line.contains(char::is_control) {
        return Err(NarinfoError::ControlCharacter { line: number });
    }
    line.split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .and_then(|(name, rest)| Some((name, rest.strip_prefix(' ')?)))
        .map(|(name, value)| Line {
            number,
            name,
            value,
            span,
        })
        .ok_or(NarinfoError::NotAField { line: number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_error(text: &str) -> Option<NarinfoError> {
        lines(text).find_map(Result::err)
    }

    #[test]
    fn a_name_ends_at_the_first_colon() {
        let read: Vec<_> = lines("A: b: c\nD: \n").map(Result::unwrap).collect();
        let parts: Vec<_> = read
            .iter()
            .map(|line| (line.number, line.name, line.value))
            .collect();
        assert_eq!(parts, [(1, "A", "b: c"), (2, "D", "")]);
        assert_eq!(read[0].span, 0..8);
        assert_eq!(read[1].span, 8..12);
    }

    #[test]
    fn what_nix_would_misread_is_refused() {
        assert_eq!(
            first_error("A: b\nC: d"),
            Some(NarinfoError::Unterminated { line: 2 })
        );
        assert_eq!(
            first_error("A: b\r\n"),
            Some(NarinfoError::ControlCharacter { line: 1 })
        );
        assert_eq!(
            first_error("A: \0\n"),
            Some(NarinfoError::ControlCharacter { line: 1 })
        );
        for text in [
            "A: b\n\n",
            "A: b\nC\n",
            "A: b\nC:\n",
            "A: b\nC:d\n",
            "A: b\n: d\n",
        ] {
            assert_eq!(
                first_error(text),
                Some(NarinfoError::NotAField { line: 2 }),
                "{text:?}"
            );
        }
        assert_eq!(
            first_error("\nA: b\n"),
            Some(NarinfoError::NotAField { line: 1 })
        );
        assert_eq!(first_error(""), None);
    }
}
