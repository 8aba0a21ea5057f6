//! A configuration file as a tree of TOML tables whose values know where they stand.
//!
//! The parts of the file are read through [`Section`]: it hands out values that passed a function
//! of `units`, and notes for every other one what is wrong with it. Who reads goes on with the
//! default; that a problem was noted keeps the result from being used.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Severity};
use super::units::nearest;

/// What is wrong with a value, said so that the value's key can precede it, and what to write.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) advice: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { message: message.into(), advice: advice.into() }
    }
}

/// The file that is read, and what was found wrong in it (and in the files it names) so far.
pub(super) struct Document<'a> {
    pub(super) file: Arc<Path>,
    text: &'a str,
    /// Where each line begins, in octets.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &Path, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text, lines, problems: RefCell::default() }
    }

    /// The path that `text`, written in this file, means: relative to the file's own folder.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.file.parent().map_or_else(|| PathBuf::from(text), |folder| folder.join(text))
    }

    /// Line and column, from 1, of the octet `at`.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= at);
        let start = self.lines[line - 1];
        let before = self.text.get(start..at).map_or(0, |before| before.chars().count());
        (line, before + 1)
    }

    pub(super) fn error(&self, at: usize, wrong: Wrong) {
        self.note(at, wrong, Severity::Error);
    }

    pub(super) fn warn(&self, at: usize, wrong: Wrong) {
        self.note(at, wrong, Severity::Warning);
    }

    fn note(&self, at: usize, Wrong { message, advice }: Wrong, severity: Severity) {
        let (line, column) = self.place(at);
        let file = Arc::clone(&self.file);
        self.add(Problem { file, line, column, severity, message, advice });
    }

    /// Notes a problem of another file.
    pub(super) fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// All that is wrong: this file's problems first, each file's from top to bottom.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        let place = |problem: &Problem| (problem.line, problem.column);
        problems.sort_by(|a, b| {
            let other = |problem: &Problem| problem.file != self.file;
            (other(a), &a.file, place(a)).cmp(&(other(b), &b.file, place(b)))
        });
        // What a template does wrong shows in every zone that has it.
        problems.dedup();
        problems
    }
}

/// A kind of table: how it is called in messages, and which keys it may have.
pub(super) struct Kind {
    /// Its name in messages and its heading in `KEYS.md`.
    pub(super) title: &'static str,
    /// The keys of this kind alone.
    pub(super) own: &'static [&'static str],
    /// Keys that other kinds have as well.
    pub(super) shared: &'static [&'static str],
}

impl Kind {
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.own.iter().chain(self.shared).copied()
    }
}

/// A value and the octet where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// One table of the file.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) doc: &'a Document<'a>,
    /// Where it begins.
    pub(super) at: usize,
    table: &'a DeTable<'a>,
    kind: &'static Kind,
}

impl<'a> Section<'a> {
    /// The whole file. Notes which keys are unknown, as for every table.
    pub(super) fn top(doc: &'a Document<'a>, table: &'a DeTable<'a>, kind: &'static Kind) -> Self {
        Self { doc, at: 0, table, kind }.judged()
    }

    fn judged(self) -> Self {
        let kind = self.kind;
        for key in self.table.keys() {
            let text: &str = key.get_ref();
            if kind.keys().any(|known| known == text) {
                continue;
            }
            let advice = nearest(text, kind.keys()).unwrap_or_else(|| {
                format!("write one of {}", kind.keys().collect::<Vec<_>>().join(", "))
            });
            let message = format!("unknown key \"{text}\" in {}", kind.title);
            self.doc.error(key.span().start, Wrong::new(message, advice));
        }
        self
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(self.kind.keys().any(|known| known == key), "{key} is not listed");
        self.table.get(key)
    }

    /// Is the key there, right or wrong?
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Is the key there, with a list of nothing?
    pub(super) fn has_empty(&self, key: &str) -> bool {
        let items = self.value(key).and_then(|value| value.get_ref().as_array());
        items.is_some_and(|items| items.is_empty())
    }

    /// Where the key's value begins; without it, where the table does.
    pub(super) fn place_of(&self, key: &str) -> usize {
        self.value(key).map_or(self.at, |value| value.span().start)
    }

    /// The key's value, if it is there and `parse` takes it.
    pub(super) fn get<T>(
        &self,
        key: &str,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.taken(key, self.value(key)?, parse)
    }

    /// The items of the key's list that `parse` takes, with their places.
    pub(super) fn list<T>(
        &self,
        key: &str,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, Wrong>,
    ) -> Option<Vec<At<T>>> {
        let items = self.items(key, "a list: [\"...\"]")?;
        let taken = items.iter().filter_map(|item| {
            let value = self.taken(key, item, &parse)?;
            Some(At { value, at: item.span().start })
        });
        Some(taken.collect())
    }

    /// The table under `key`.
    pub(super) fn table(&self, key: &str, kind: &'static Kind) -> Option<Self> {
        self.section(key, self.value(key)?, kind, &format!("a table: [{key}]"))
    }

    /// The tables in the table under `key`, with their names.
    pub(super) fn named_tables(&self, key: &str, kind: &'static Kind) -> Vec<(&'a str, Self)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            self.wrong_type(key, value, &format!("a table: [{key}.NAME]"));
            return Vec::new();
        };
        let sections = tables.iter().filter_map(|(name, value)| {
            let name: &str = name.get_ref();
            Some((name, self.section(name, value, kind, &format!("a table: [{key}.{name}]"))?))
        });
        sections.collect()
    }

    /// The tables of the list under `key`; `None` without the key. `example` is what to write.
    pub(super) fn tables(
        &self,
        key: &str,
        kind: &'static Kind,
        example: &str,
    ) -> Option<Vec<Self>> {
        let items = self.items(key, example)?;
        Some(items.iter().filter_map(|item| self.section(key, item, kind, example)).collect())
    }

    fn items(&self, key: &str, example: &str) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let value = self.value(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, example);
            return None;
        };
        Some(items)
    }

    fn section(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        kind: &'static Kind,
        example: &str,
    ) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, example);
            return None;
        };
        Some(Self { doc: self.doc, at: value.span().start, table, kind }.judged())
    }

    fn taken<T>(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        parse(value.get_ref())
            .map_err(|Wrong { message, advice }| {
                let message = format!("{key} {message}");
                self.doc.error(value.span().start, Wrong::new(message, advice));
            })
            .ok()
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, example: &str) {
        let wrong = wrong_type(value.get_ref(), example);
        let message = format!("{key} {}", wrong.message);
        self.doc.error(value.span().start, Wrong::new(message, wrong.advice));
    }
}

/// For a value of a type that its key does not have.
pub(super) fn wrong_type(value: &DeValue<'_>, example: &str) -> Wrong {
    let found = match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Wrong::new(format!("is {found}"), format!("write {example}"))
}
