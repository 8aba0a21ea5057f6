//! Zone file text cut into entries and words (RFC 1035 section 5.1): parentheses, comments,
//! quotes and escapes end here, and every word comes out as printable ASCII.

use super::parts;

/// One entry: a record or a directive, over as many lines as its parentheses span.
#[derive(Default)]
pub(super) struct Entry {
    /// The line it begins on, counted from 1.
    pub(super) line: u32,
    /// Does its first line begin with a blank: the owner of the record before holds?
    pub(super) indented: bool,
    text: String,
    words: Vec<(usize, usize)>,
}

impl Entry {
    /// An entry made of these words.
    pub(super) fn of<'w>(line: u32, words: impl IntoIterator<Item = &'w str>) -> Self {
        let mut entry = Self { line, ..Self::default() };
        for word in words {
            entry.begin();
            entry.text.push_str(word);
            entry.end();
        }
        entry
    }

    /// The words: escapes as they were, octets that are not printable as `\DDD`, quotes gone.
    pub(super) fn words(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.words.iter().map(|&(from, to)| &self.text[from..to])
    }

    fn clear(&mut self, line: u32) {
        (self.line, self.indented) = (line, false);
        self.text.clear();
        self.words.clear();
    }

    fn begin(&mut self) {
        self.words.push((self.text.len(), usize::MAX));
    }

    fn is_open(&self) -> bool {
        self.words.last().is_some_and(|&(_, to)| to == usize::MAX)
    }

    fn end(&mut self) {
        if let Some(word) = self.words.last_mut() {
            word.1 = word.1.min(self.text.len());
        }
    }

    fn push(&mut self, byte: u8) {
        use std::fmt::Write as _;
        match byte {
            0x20..=0x7e => self.text.push(char::from(byte)),
            _ => write!(self.text, "\\{byte:03}").expect("a String takes all"),
        }
    }
}

/// What is wrong with the text, and on which line.
pub(super) struct Malformed {
    pub(super) line: u32,
    pub(super) what: &'static str,
}

/// The text still to be cut.
pub(super) struct Lexer<'t> {
    rest: &'t [u8],
    line: u32,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Reads the next entry that has a word; `false` at the end of the text.
    pub(super) fn next(&mut self, entry: &mut Entry) -> Result<bool, Malformed> {
        entry.clear(self.line);
        let (mut open, mut blank) = (0_u32, matches!(self.rest, [b' ' | b'\t', ..]));
        while let Some(byte) = self.take() {
            match byte {
                b'\n' => {
                    entry.end();
                    self.line += 1;
                    if open > 0 {
                        continue;
                    }
                    if !entry.words.is_empty() {
                        break;
                    }
                    blank = matches!(self.rest, [b' ' | b'\t', ..]);
                }
                b' ' | b'\t' | b'\r' => entry.end(),
                b';' => {
                    entry.end();
                    let end = self.rest.iter().position(|&byte| byte == b'\n');
                    self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
                }
                b'(' => {
                    entry.end();
                    open += 1;
                }
                b')' => {
                    entry.end();
                    open = open.checked_sub(1).ok_or_else(|| self.wrong("`)` without `(`"))?;
                }
                _ => {
                    if entry.words.is_empty() {
                        (entry.line, entry.indented) = (self.line, blank);
                    }
                    self.word(entry, byte)?;
                }
            }
        }
        entry.end();
        if open > 0 {
            return Err(Malformed { line: entry.line, what: "`(` is never closed by `)`" });
        }
        Ok(!entry.words.is_empty())
    }

    /// Goes on with the open word, or begins one.
    fn word(&mut self, entry: &mut Entry, byte: u8) -> Result<(), Malformed> {
        if byte == b'"' {
            // `alpn="h2,h3"` is one word (RFC 9460 section 2.1).
            if !(entry.is_open() && entry.text.ends_with('=')) {
                entry.end();
                entry.begin();
            }
            return self.quoted(entry);
        }
        if !entry.is_open() {
            entry.begin();
        }
        self.octet(entry, byte)
    }

    fn quoted(&mut self, entry: &mut Entry) -> Result<(), Malformed> {
        loop {
            match self.take() {
                Some(b'"') => break,
                None | Some(b'\n') => {
                    return Err(
                        self.wrong("a text is not closed: its `\"` is missing on this line")
                    );
                }
                Some(byte) => self.octet(entry, byte)?,
            }
        }
        entry.end();
        Ok(())
    }

    fn octet(&mut self, entry: &mut Entry, byte: u8) -> Result<(), Malformed> {
        if byte != b'\\' {
            entry.push(byte);
            return Ok(());
        }
        if matches!(self.rest, [] | [b'\n', ..]) {
            return Err(self.wrong("a backslash ends the line"));
        }
        let escaped = self.rest;
        let Some((octet, rest)) = parts::unescape(escaped) else {
            return Err(self.wrong("a backslash and a digit begin three digits up to 255"));
        };
        self.rest = rest;
        match escaped[0] {
            0x20..=0x7e => {
                entry.text.push('\\');
                escaped[..escaped.len() - rest.len()].iter().for_each(|&byte| entry.push(byte));
            }
            _ => entry.push(octet),
        }
        Ok(())
    }

    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn wrong(&self, what: &'static str) -> Malformed {
        Malformed { line: self.line, what }
    }
}
