//! Zone files (RFC 1035 section 5): reading them, and writing what is served.
//!
//! **How it fits.** [`read`] fills a [`Builder`] for zones that are served from a file, for
//! checks and for tests; [`write()`] is `backstop export`. Record data are read and written by the
//! `domain` crate but for the types that it lacks.
//!
//! **Invariants.**
//! - *told where*: every mistake is told with file and line and what is wrong.
//! - *bounded*: a file, the files it includes and what `$GENERATE` makes have limits.
//! - *round trip*: what [`write()`] writes reads back as the same zone; data whose text form does
//!   not are written in the generic form, which every server reads.
//!
//! **Sections.** RFC 1035 section 5, RFC 2308 section 4 (`$TTL`), RFC 3597 section 5 (generic
//! form), RFC 1876, RFC 3123, RFC 4398, RFC 7553, RFC 9460; BIND's `$GENERATE` and units of time.
//!
//! It checks the form of records, and that an alias is alone: what makes a zone is the builder's to
//! say.

mod generate;
mod lexer;
mod parts;
mod service;
mod special;
mod text;

use super::{Builder, Node, Record, Zone};
use crate::name::{Name, NameBuf};
use crate::wire::{Class, Rtype, TTL_MAX};
use lexer::{Entry, Lexer};
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How much a zone file may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of each file, and of the records that all files together make.
    pub octets: usize,
}

impl Default for Limits {
    /// 4 GiB.
    fn default() -> Self {
        Self { octets: 4 << 30 }
    }
}

/// How deep files may include each other.
const DEPTH_MAX: usize = 8;

/// Why a zone file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is larger than the limit.
    #[error("{}: larger than the limit of {limit} octets", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// [`Limits::octets`].
        limit: usize,
    },
    /// A line is wrong.
    #[error("{}:{line}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u32,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads the zone `apex` from the file at `path`, and from those that it includes. Records that
/// are not in the zone are counted by [`Builder::outside`].
pub fn read(path: &Path, apex: Name<'_>, limits: Limits) -> Result<Builder, FileError> {
    let mut reader = Reader::new(apex, limits);
    reader.file(path, apex.to_owned(), 0)?;
    Ok(reader.builder)
}

/// As [`read`], from a text that is called `path` in errors; the files that it includes are
/// found relative to that.
pub fn read_text(
    text: &[u8],
    path: &Path,
    apex: Name<'_>,
    limits: Limits,
) -> Result<Builder, FileError> {
    let mut reader = Reader::new(apex, limits);
    reader.text(text, path, apex.to_owned(), 0)?;
    Ok(reader.builder)
}

/// The first name where an alias is not alone, and what is wrong there: BIND, Knot and NSD refuse
/// such files, and so do we. What a primary sends is its own affair (RFC 1034 section 3.6.2, RFC
/// 6672 section 2.4).
pub fn crowded(zone: &Zone) -> Option<String> {
    zone.entries().find_map(|(key, node)| {
        let what = crowded_at(node)?;
        let owner = key.name(zone.apex()).expect("a key of this zone");
        Some(format!("{owner} has {what}"))
    })
}

fn crowded_at(node: Node<'_>) -> Option<&'static str> {
    let many = |rtype| node.find(rtype).is_some_and(|set| set.iter().nth(1).is_some());
    let goes_with = [Rtype::CNAME, Rtype::NSEC, Rtype::KEY];
    let mut others =
        node.sets().filter(|set| !set.is_signatures() && !goes_with.contains(&set.rtype()));
    if many(Rtype::DNAME) {
        return Some("more than one DNAME record");
    }
    node.find(Rtype::CNAME)?;
    match many(Rtype::CNAME) {
        true => Some("more than one CNAME record"),
        false => others.next().map(|_| "a CNAME record beside others"),
    }
}

/// Writes `zone` as a zone file that any server loads: the SOA first, owners in canonical order,
/// absolute names, a record a line.
pub fn write(zone: &Zone, out: &mut impl io::Write) -> io::Result<()> {
    let apex = zone.apex_node();
    let is_soa = |set: &super::RecordSet<'_>| set.rtype() == Rtype::SOA && !set.is_signatures();
    let mut line = String::new();
    write_sets(zone.apex(), apex, is_soa, &mut line, out)?;
    for (key, node) in zone.entries() {
        let owner = key.name(zone.apex()).expect("a key of this zone");
        let is_apex = key.as_bytes().is_empty();
        let rest = |set: &super::RecordSet<'_>| !(is_apex && is_soa(set));
        write_sets(owner.as_name(), node, rest, &mut line, out)?;
    }
    Ok(())
}

fn write_sets(
    owner: Name<'_>,
    node: Node<'_>,
    wanted: impl Fn(&super::RecordSet<'_>) -> bool,
    line: &mut String,
    out: &mut impl io::Write,
) -> io::Result<()> {
    for set in node.sets().filter(wanted) {
        for data in set.iter() {
            let record = Record { rtype: set.data_type(), ttl: set.ttl(), data };
            line.clear();
            line_of(owner, record, line);
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
    }
    Ok(())
}

/// Reads a type and data of that type as they stand in a zone file, names being absolute.
///
/// # Errors
/// What is wrong.
pub fn read_data(line: &str) -> Result<(Rtype, Vec<u8>), String> {
    let words: Vec<&str> =
        line.split_whitespace().filter(|word| !matches!(*word, "(" | ")")).collect();
    let (word, words) = words.split_first().ok_or("there is nothing")?;
    let rtype = text::rtype(word).ok_or_else(|| format!("{word} is no record type"))?;
    let mut data = Vec::new();
    text::read(rtype, words.iter().copied(), Name::ROOT, &mut data)?;
    Ok((rtype, data))
}

/// Appends one record as it stands in a zone file, without the end of the line.
pub fn line_of(owner: Name<'_>, record: Record<'_>, line: &mut String) {
    use std::fmt::Write as _;
    let Record { rtype, ttl, data } = record;
    write!(line, "{owner} {ttl} IN ").expect("a String takes all");
    if text::is_rare(rtype) {
        write!(line, "TYPE{} ", rtype.0).expect("a String takes all");
        return text::write_generic(data, line);
    }
    write!(line, "{rtype} ").expect("a String takes all");
    text::write(rtype, data, line);
}

/// What holds from one entry to the next.
struct Reader {
    builder: Builder,
    limits: Limits,
    /// `$TTL`, and what holds without it: the last TTL told.
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    data: Vec<u8>,
}

/// What holds from one entry of a file to the next.
struct Scope<'p> {
    path: &'p Path,
    origin: NameBuf,
    owner: Option<NameBuf>,
    depth: usize,
}

impl Reader {
    fn new(apex: Name<'_>, limits: Limits) -> Self {
        let builder = Builder::new(apex);
        Self { builder, limits, default_ttl: None, last_ttl: None, data: Vec::new() }
    }

    fn file(&mut self, path: &Path, origin: NameBuf, depth: usize) -> Result<(), FileError> {
        let unreadable = |error| FileError::Unreadable { path: path.into(), error };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let limit = self.limits.octets;
        let mut text = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() > limit {
            return Err(FileError::TooLarge { path: path.into(), limit });
        }
        self.text(&text, path, origin, depth)
    }

    fn text(
        &mut self,
        text: &[u8],
        path: &Path,
        origin: NameBuf,
        depth: usize,
    ) -> Result<(), FileError> {
        let wrong = |line, what: String| FileError::Wrong { path: path.into(), line, what };
        let mut scope = Scope { path, origin, owner: None, depth };
        let mut lexer = Lexer::new(text);
        let mut entry = Entry::default();
        loop {
            match lexer.next(&mut entry) {
                Ok(true) => self.entry(&entry, &mut scope)?,
                Ok(false) => return Ok(()),
                Err(bad) => return Err(wrong(bad.line, bad.what.into())),
            }
        }
    }

    fn entry(&mut self, entry: &Entry, scope: &mut Scope<'_>) -> Result<(), FileError> {
        let first = entry.words().next().expect("an entry has a word");
        let directive = first.starts_with('$') && !entry.indented;
        if directive && first.eq_ignore_ascii_case("$INCLUDE") {
            return self.include(entry, scope);
        }
        let done =
            if directive { self.directive(first, entry, scope) } else { self.record(entry, scope) };
        done.map_err(|what| scope.wrong(entry, what))?;
        if self.builder.octets() > self.limits.octets {
            return Err(FileError::TooLarge { path: scope.path.into(), limit: self.limits.octets });
        }
        Ok(())
    }

    fn include(&mut self, entry: &Entry, scope: &Scope<'_>) -> Result<(), FileError> {
        let mut words = entry.words().skip(1);
        let Some(file) = words.next() else {
            return Err(scope.wrong(entry, "$INCLUDE needs the name of a file".into()));
        };
        if scope.depth == DEPTH_MAX {
            let what = format!("files include each other more than {DEPTH_MAX} deep");
            return Err(scope.wrong(entry, what));
        }
        let origin = match words.next() {
            Some(word) => text::name(word, scope.origin.as_name()),
            None => Ok(scope.origin.clone()),
        };
        let origin = origin.map_err(|what| scope.wrong(entry, what))?;
        let file = parts::octets(file).map_err(|what| scope.wrong(entry, what))?;
        let file = Path::new(OsStr::from_bytes(&file));
        let path = scope.path.parent().unwrap_or_else(|| Path::new("")).join(file);
        self.file(&path, origin, scope.depth + 1)
    }

    fn directive(
        &mut self,
        first: &str,
        entry: &Entry,
        scope: &mut Scope<'_>,
    ) -> Result<(), String> {
        let words = entry.words().skip(1);
        let one = || match (words.clone().next(), words.len()) {
            (Some(word), 1) => Ok(word),
            _ => Err(format!("{first} needs one value")),
        };
        match first.to_ascii_uppercase().as_str() {
            "$ORIGIN" => scope.origin = text::name(one()?, scope.origin.as_name())?,
            "$TTL" => self.default_ttl = Some(ttl(one()?)?),
            "$GENERATE" => {
                for entry in generate::entries(entry)? {
                    self.record(&entry?, scope)?;
                    if self.builder.octets() > self.limits.octets {
                        return Err("$GENERATE makes more than the limit allows".into());
                    }
                }
            }
            _ => return Err(format!("{first} is not known: $ORIGIN, $TTL, $INCLUDE, $GENERATE")),
        }
        Ok(())
    }

    /// `[owner] [TTL] [class] type data`, TTL and class in either order.
    fn record(&mut self, entry: &Entry, scope: &mut Scope<'_>) -> Result<(), String> {
        let mut words = entry.words();
        if !entry.indented {
            let word = words.next().expect("an entry has a word");
            scope.owner = Some(text::name(word, scope.origin.as_name())?);
        }
        let (mut own_ttl, mut class) = (None, None);
        let rtype = loop {
            let word = words.next().ok_or("the record has no type")?;
            if class.is_none()
                && let Some(found) = class_of(word)
            {
                class = Some(found);
            } else if own_ttl.is_none() && word.starts_with(|c: char| c.is_ascii_digit()) {
                own_ttl = Some(ttl(word)?);
            } else {
                break text::rtype(word).ok_or_else(|| format!("{word} is no record type"))?;
            }
        };
        if class.is_some_and(|class| class != Class::IN) {
            return Err("only class IN is served".into());
        }
        if !rtype.is_data() {
            return Err(format!("{rtype} is a type of questions, not of data"));
        }
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        text::read(rtype, words, scope.origin.as_name(), &mut data)?;
        let ttl = self.ttl(own_ttl, rtype, &data)?;
        let owner = scope.owner.as_ref().ok_or("the first record has no owner")?;
        self.builder.add(owner.as_name(), Record { rtype, ttl, data: &data });
        self.data = data;
        Ok(())
    }

    /// The record's own TTL, that of `$TTL`, or the last one told; an SOA record without any has
    /// its own minimum (RFC 1035 section 5.1, RFC 2308 section 4).
    fn ttl(&mut self, own: Option<u32>, rtype: Rtype, data: &[u8]) -> Result<u32, String> {
        let minimum = || super::Soa::parse(0, data).filter(|_| rtype == Rtype::SOA);
        let ttl = own
            .or(self.default_ttl)
            .or(self.last_ttl)
            .or_else(|| minimum().map(|soa| soa.minimum.min(TTL_MAX)))
            .ok_or("there is no TTL: write `$TTL 1h` (or another) at the top of the file")?;
        if own.is_some() || self.last_ttl.is_none() {
            self.last_ttl = Some(ttl);
        }
        Ok(ttl)
    }
}

impl Scope<'_> {
    fn wrong(&self, entry: &Entry, what: String) -> FileError {
        FileError::Wrong { path: self.path.into(), line: entry.line, what }
    }
}

fn ttl(word: &str) -> Result<u32, String> {
    let ttl = text::seconds(word).ok_or_else(|| format!("{word} is no TTL"))?;
    if ttl > TTL_MAX {
        return Err(format!("a TTL is at most {TTL_MAX} seconds, {word} is more"));
    }
    Ok(ttl)
}

fn class_of(word: &str) -> Option<Class> {
    let class: domain::base::iana::Class = word.parse().ok()?;
    Some(Class(class.to_int()))
}

#[cfg(test)]
mod tests;
