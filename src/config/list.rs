//! `[[zone-list]]`: files with a zone's name a line, for fleets. A line may name a template after
//! the name; `#` begins a comment. A list is read as a stream, and its zones share their settings.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Document, Kind, Section, Wrong};
use super::problem::{Problem, Severity};
use super::settings::Missing;
use super::units::{name_in, some_text};
use super::zones::{Place, Templates, Zones};
use super::{ZoneConfig, ZoneSettings};

pub(super) static ZONE_LIST: Kind =
    Kind { title: "[[zone-list]]", own: &["file", "template"], shared: &[] };

/// The longest line: a name with all its octets escaped has 1016 characters.
const LINE_MAX: usize = 4096;

/// How many mistakes of a list are told one by one.
const PROBLEMS_MAX: usize = 100;

/// How many lists there may be.
const LISTS_MAX: u16 = 10_000;

pub(super) fn read<'a>(top: &Section<'a>, templates: &mut Templates<'a>, zones: &mut Zones) {
    for (number, section) in (0..=LISTS_MAX).zip(tables(top)) {
        let doc = section.doc;
        if number == LISTS_MAX {
            let wrong = Wrong::new("there are too many zone lists", "put more zones into each");
            return doc.error(section.at, wrong);
        }
        if !section.has("file") {
            let wrong = Wrong::new("this zone list has no file", "write file = \"zones.txt\"");
            doc.error(section.at, wrong);
        }
        // A template that is missing is told once, at the list, not for each of its zones.
        let usual = templates.named(&section);
        let file = section.get("file", |value| open(doc.path(some_text(value)?)));
        let Some((path, file)) = file else { continue };
        let path: Arc<Path> = path.into();
        zones.lists.push(Arc::clone(&path));
        let mut list =
            List { doc, path, templates, zones, usual, section, problems: 0, told: false };
        if let Err(error) = list.lines(BufReader::new(file)) {
            let wrong = Wrong::new(format!("file cannot be read ({error})"), "look at the disk");
            doc.error(section.place_of("file"), wrong);
        }
        list.more_problems();
    }
}

fn tables<'a>(top: &Section<'a>) -> Vec<Section<'a>> {
    top.tables("zone-list", &ZONE_LIST, "[[zone-list]]").unwrap_or_default()
}

fn open(path: PathBuf) -> Result<(PathBuf, File), Wrong> {
    let unreadable = |why: &dyn std::fmt::Display| {
        let message = format!("\"{}\" cannot be read ({why})", path.display());
        Wrong::new(message, "write the path of a file with a zone's name a line")
    };
    let metadata = fs::metadata(&path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"not a file"));
    }
    let file = File::open(&path).map_err(|error| unreadable(&error))?;
    Ok((path, file))
}

/// One list while it is read.
struct List<'a, 'l> {
    doc: &'a Document<'a>,
    path: Arc<Path>,
    templates: &'l mut Templates<'a>,
    zones: &'l mut Zones,
    /// The template of lines that name none; `None`: a wrong one.
    usual: Option<&'a str>,
    section: Section<'a>,
    problems: usize,
    /// Was it told that the list's own template has no source?
    told: bool,
}

impl List<'_, '_> {
    fn lines(&mut self, mut file: impl BufRead) -> io::Result<()> {
        let mut line = Vec::with_capacity(256);
        for number in 1.. {
            line.clear();
            if file.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() > LINE_MAX {
                let message = format!("the line is longer than {LINE_MAX} octets");
                self.problem(number, 1, Wrong::new(message, "write one zone's name a line"));
                break; // hardly a list of names
            }
            self.line(number, &line);
        }
        Ok(())
    }

    fn line(&mut self, number: usize, line: &[u8]) {
        let Ok(text) = std::str::from_utf8(line) else {
            return self.problem(number, 1, Wrong::new("the line is not UTF-8", "write a name"));
        };
        let mut words = text.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(name) = words.next() else { return };
        let template = words.next();
        let column = |word| column(text, word);
        if let Some(extra) = words.next() {
            let message = format!("{extra:?} follows the zone and its template");
            return self.problem(number, column(extra), Wrong::new(message, "remove it"));
        }
        let zone = name_in(name).map_err(|wrong| (name, wrong));
        let settings = self.settings(name, template);
        match (zone, settings) {
            (Ok(name), Ok(Some(settings))) => {
                let list = u16::try_from(self.zones.lists.len() - 1).ok();
                self.zones.add(ZoneConfig { name, settings }, Place { list, at: number });
            }
            (zone, settings) => {
                for (word, wrong) in [zone.err(), settings.err()].into_iter().flatten() {
                    self.problem(number, column(word), wrong);
                }
            }
        }
    }

    /// What holds for a line's zone; nothing, if what is wrong is told at the list. An error comes
    /// with the word that it is about.
    fn settings<'t>(
        &mut self,
        name: &'t str,
        template: Option<&'t str>,
    ) -> Result<Option<Arc<ZoneSettings>>, (&'t str, Wrong)> {
        let Some(used) = template.or(self.usual) else { return Ok(None) };
        match (self.templates.shared(used), template) {
            (Some(Ok(settings)), _) => Ok(Some(settings)),
            (Some(Err(missing)), _) if missing.reported => Ok(None),
            (Some(Err(_)), Some(_)) => Err((name, Missing::wrong(&format!("zone \"{name}\"")))),
            (Some(Err(_)), None) => {
                if !self.told {
                    self.told = true;
                    self.doc.error(self.section.at, Missing::wrong("the template of this list"));
                }
                Ok(None)
            }
            (None, _) => {
                let Wrong { message, advice } = self.templates.unknown(used);
                Err((template.unwrap_or(name), Wrong::new(format!("template {message}"), advice)))
            }
        }
    }

    fn problem(&mut self, line: usize, column: usize, Wrong { message, advice }: Wrong) {
        self.problems += 1;
        if self.problems <= PROBLEMS_MAX {
            let (file, severity) = (Arc::clone(&self.path), Severity::Error);
            self.doc.add(Problem { file, line, column, severity, message, advice });
        }
    }

    fn more_problems(&self) {
        if self.problems > PROBLEMS_MAX {
            let more = self.problems - PROBLEMS_MAX;
            let message = format!("{more} more mistakes in \"{}\"", self.path.display());
            let wrong = Wrong::new(message, format!("correct the first {PROBLEMS_MAX}"));
            self.doc.error(self.section.place_of("file"), wrong);
        }
    }
}

/// In which column of `line` its part `word` begins.
fn column(line: &str, word: &str) -> usize {
    let start = word.as_ptr().addr() - line.as_ptr().addr();
    line[..start].chars().count() + 1
}
