//! Finds the paths that a Rust file names: which modules of its own crate, and which outside crates.

use std::path::Path;

/// One path's first step that matters, where it stands.
#[derive(Debug, PartialEq)]
pub struct Mention {
    /// Line in the file, from 1.
    pub line: usize,
    /// A top-level module of this crate (`*` for all of them), or an outside crate.
    pub path: String,
    /// Whether `path` is an outside crate.
    pub outside: bool,
}

#[derive(Debug, PartialEq)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// All that `text`, the content of `file` (relative to `src/`), mentions.
///
/// Any word before a `::`, and the root of any `use` or `extern crate`, counts as an outside crate
/// unless it is one of `crate`, `super`, `self` and this crate's name; which of them are crates at
/// all is for the caller to know.
pub fn mentions(file: &Path, text: &str) -> Vec<Mention> {
    let tokens = tokens(text);
    let mut walk = Walk {
        module: module_of(file),
        inline: Vec::new(),
        depth: 0,
        found: Vec::new(),
    };
    let mut at = 0;
    while at < tokens.len() {
        at = walk.step(&tokens, at);
    }
    walk.found
}

/// `tier/disk/index.rs` is the module `tier::disk::index`; `mod.rs` is its folder; the roots are ``.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|p| p.to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] || parts == ["main"] {
        parts.pop();
    }
    parts
}

struct Walk {
    /// Where we are, inline modules included.
    module: Vec<String>,
    /// The brace depths at which the inline modules opened.
    inline: Vec<usize>,
    depth: usize,
    found: Vec<Mention>,
}

impl Walk {
    /// Takes what stands at `at` and says where to go on.
    fn step(&mut self, tokens: &[Token], at: usize) -> usize {
        let text = |ahead: usize| tokens.get(at + ahead).map_or("", |t| t.text);
        match text(0) {
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.inline.last() == Some(&self.depth) {
                    self.inline.pop();
                    self.module.pop();
                }
            }
            "mod" if text(2) == "{" => {
                self.inline.push(self.depth);
                self.module.push(text(1).to_owned());
                self.depth += 1;
                return at + 3;
            }
            "use" => return self.tree(tokens, at + 1, None),
            "extern" if text(1) == "crate" => {
                self.outside(tokens, at + 2);
                return at + 3;
            }
            word if is_word(word) && text(1) == "::" && !follows_a_path(tokens, at) => {
                return self.tree(tokens, at, None);
            }
            _ => {}
        }
        at + 1
    }

    /// One path or `use` tree from `at` on. `from` is the module that the words so far led to;
    /// `None` at the beginning of a path. Answers where it ends.
    fn tree(&mut self, tokens: &[Token], mut at: usize, mut from: Option<Vec<String>>) -> usize {
        while let Some(token) = tokens.get(at) {
            match token.text {
                "::" => {}
                "{" => return self.group(tokens, at + 1, from.as_deref()),
                "crate" | "narwharf" if from.is_none() => from = Some(Vec::new()),
                "self" => from = Some(from.unwrap_or_else(|| self.module.clone())),
                "super" => {
                    let mut above = from.unwrap_or_else(|| self.module.clone());
                    above.pop();
                    from = Some(above);
                }
                word if is_word(word) || word == "*" => {
                    match from {
                        None => self.outside(tokens, at),
                        Some(module) => {
                            let first = module.first().map_or(word, String::as_str);
                            let path = first.to_owned();
                            self.found.push(Mention {
                                line: token.line,
                                path,
                                outside: false,
                            });
                        }
                    }
                    return skip_path(tokens, at + 1);
                }
                _ => return at,
            }
            at += 1;
        }
        at
    }

    /// The inside of `{a, b::{c}}`, each branch from the same module.
    fn group(&mut self, tokens: &[Token], mut at: usize, from: Option<&[String]>) -> usize {
        while let Some(token) = tokens.get(at) {
            at = match token.text {
                "}" => return at + 1,
                "," => at + 1,
                "as" => at + 2,
                _ => self
                    .tree(tokens, at, from.map(<[String]>::to_vec))
                    .max(at + 1),
            };
        }
        at
    }

    fn outside(&mut self, tokens: &[Token], at: usize) {
        if let Some(token) = tokens.get(at) {
            self.found.push(Mention {
                line: token.line,
                path: token.text.to_owned(),
                outside: true,
            });
        }
    }
}

/// Past the rest of a path whose root is known: `::b::{c, d}::e`.
fn skip_path(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|t| t.text == "::") {
        at += 1;
        match tokens.get(at).map_or("", |t| t.text) {
            "{" => {
                let mut open = 0;
                while let Some(token) = tokens.get(at) {
                    open += usize::from(token.text == "{");
                    open -= usize::from(token.text == "}");
                    at += 1;
                    if open == 0 {
                        break;
                    }
                }
            }
            word if is_word(word) || word == "*" => at += 1,
            _ => break,
        }
    }
    at
}

/// Whether the word at `at` continues a path (`a::HERE::b`) instead of beginning one. A leading
/// `::name` begins one.
fn follows_a_path(tokens: &[Token], at: usize) -> bool {
    let before = |back: usize| {
        at.checked_sub(back)
            .and_then(|i| tokens.get(i))
            .map_or("", |t| t.text)
    };
    before(1) == "::" && (is_word(before(2)) || before(2) == ">")
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single other characters; no blanks, comments, strings, characters or lifetimes.
/// A raw identifier is its bare word.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (len, keep) = match literal_or_comment(rest) {
            Some(len) => (len, false),
            None if rest.starts_with("r#") => (2, false),
            None if rest.starts_with("::") => (2, true),
            None if first.is_alphanumeric() || first == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                (end.unwrap_or(rest.len()), true)
            }
            None => (first.len_utf8(), !first.is_whitespace()),
        };
        let (token, after) = rest.split_at(len);
        if keep {
            found.push(Token { line, text: token });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    found
}

/// The length in bytes of the comment, string, character or lifetime that `rest` begins with.
fn literal_or_comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default();
        let bare = after.trim_start_matches('#');
        bare.starts_with('"') && (prefix.ends_with('r') || bare.len() == after.len())
    });
    if let Some(prefix) = prefix {
        let body = &rest[prefix.len()..];
        let marks = body.len() - body.trim_start_matches('#').len();
        let open = prefix.len() + marks + 1;
        return Some(open + string_end(&rest[open..], prefix.ends_with('r'), marks));
    }
    let quote = usize::from(rest.starts_with("b'"));
    rest[quote..]
        .strip_prefix('\'')
        .map(|after| quote + 1 + character_or_lifetime(after))
}

fn block_comment(rest: &str) -> usize {
    let mut open = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            open += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            open -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if open == 0 {
            break;
        }
    }
    at
}

/// From behind the opening quote to behind the closing one.
fn string_end(body: &str, raw: bool, marks: usize) -> usize {
    if raw {
        let close = format!("\"{}", "#".repeat(marks));
        return body.find(&close).map_or(body.len(), |at| at + close.len());
    }
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    body.len()
}

/// Behind a `'`: `x'`, `\n'`, `\u{1f}'` are characters, `name` is a lifetime.
fn character_or_lifetime(after: &str) -> usize {
    if let Some(escape) = after.strip_prefix('\\') {
        let skipped = escape.chars().next().map_or(0, char::len_utf8);
        let end = escape[skipped..]
            .find('\'')
            .map_or(escape.len(), |at| skipped + at + 1);
        return 1 + end;
    }
    let first = after.chars().next().map_or(0, char::len_utf8);
    if after[first..].starts_with('\'') {
        return first + 1;
    }
    after
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(after.len())
}
