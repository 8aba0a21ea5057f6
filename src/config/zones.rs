//! `[template.NAME]`, `[[zone]]`, `[[zone-list]]`: which zones are served, and what holds for each.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::access::Known;
use super::document::{Document, Kind, Section, Wrong};
use super::problem::{Problem, Severity};
use super::settings::{Layer, Missing, SETTINGS, TEMPLATE, is_set};
use super::units::{name, nearest, text};
use super::{ZoneConfig, ZoneSettings, list};
use crate::name::NameBuf;

pub(super) static ZONE: Kind =
    Kind { title: "[[zone]]", own: &["name", "template"], shared: SETTINGS };

/// The template that all zones have.
const DEFAULT: &str = "default";

pub(super) fn read(top: &Section<'_>, known: &Known<'_>) -> Vec<ZoneConfig> {
    let mut templates = Templates::read(top, known);
    let mut zones = Zones { zones: Vec::new(), places: Vec::new(), lists: Vec::new() };
    for section in top.tables("zone", &ZONE, "[[zone]]").unwrap_or_default() {
        if !section.has("name") {
            let advice = "write name = \"example.org\"";
            section.doc.error(section.at, Wrong::new("this zone has no name", advice));
        }
        let name = section.get("name", name);
        let settings = templates.settings(&section, known, name.as_ref());
        if let (Some(name), Some(settings)) = (name, settings) {
            let at = section.place_of("name");
            zones.add(ZoneConfig { name, settings }, Place { list: None, at });
        }
    }
    list::read(top, &mut templates, &mut zones);
    zones.unique(top.doc)
}

/// The templates, and the settings that zones without their own share.
pub(super) struct Templates<'a> {
    layers: HashMap<&'a str, (Layer, Section<'a>)>,
    /// What each template comes to, `""` being none: made when first used.
    settled: HashMap<String, Result<Arc<ZoneSettings>, Missing>>,
    top: Section<'a>,
}

impl<'a> Templates<'a> {
    fn read(top: &Section<'a>, known: &Known<'_>) -> Self {
        let tables = top.named_tables("template", &TEMPLATE).into_iter();
        let layers = tables.map(|(name, section)| (name, (Layer::read(&section, known), section)));
        Self { layers: layers.collect(), settled: HashMap::new(), top: *top }
    }

    /// The template that `section` names, `""` if none; `None` if that is wrong, which is noted.
    pub(super) fn named(&self, section: &Section<'a>) -> Option<&'a str> {
        if !section.has("template") {
            return Some("");
        }
        section.get("template", |value| {
            let name = text(value)?;
            let known = self.known(name).ok_or_else(|| self.unknown(name))?;
            Ok(known)
        })
    }

    fn known(&self, name: &str) -> Option<&'a str> {
        self.layers.get_key_value(name).map(|(&name, _)| name)
    }

    /// What is wrong with a template's name that stands for none.
    pub(super) fn unknown(&self, name: &str) -> Wrong {
        let advice = nearest(name, self.layers.keys().copied());
        let advice = advice.unwrap_or_else(|| format!("write a [template.{name}]"));
        Wrong::new(format!("{name:?} is not defined"), advice)
    }

    /// What zones have that have nothing but `template`. `None` if there is no such template.
    pub(super) fn shared(&mut self, template: &str) -> Option<Result<Arc<ZoneSettings>, Missing>> {
        if let Some(settled) = self.settled.get(template) {
            return Some(settled.clone());
        }
        if !template.is_empty() && !self.layers.contains_key(template) {
            return None;
        }
        let settled = self.below(template).settle(&self.top).map(Arc::new);
        self.settled.insert(template.to_owned(), settled.clone());
        Some(settled)
    }

    /// What `template` and `default` set together.
    fn below(&self, template: &str) -> Layer {
        let layer =
            |name| self.layers.get(name).map(|(layer, _)| layer.clone()).unwrap_or_default();
        layer(template).over(&layer(DEFAULT))
    }

    fn settings(
        &mut self,
        section: &Section<'a>,
        known: &Known<'_>,
        name: Option<&NameBuf>,
    ) -> Option<Arc<ZoneSettings>> {
        let template = self.named(section);
        let settled = if is_set(section) {
            let own = Layer::read(section, known);
            own.over(&self.below(template.unwrap_or(""))).settle(section).map(Arc::new)
        } else {
            self.shared(template.unwrap_or(""))?
        };
        match settled {
            Ok(settings) => Some(settings),
            Err(missing) => {
                // Without its template, nobody knows what a zone lacks.
                if !missing.reported && template.is_some() {
                    let zone =
                        name.map_or_else(|| "this zone".into(), |name| format!("zone \"{name}\""));
                    section.doc.error(section.place_of("name"), Missing::wrong(&zone));
                }
                None
            }
        }
    }
}

/// Where a zone was named. Small: there may be a million.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The list, by its number in [`Zones::lists`]; `None`: the configuration itself.
    pub(super) list: Option<u16>,
    /// The line in a list; in the configuration, the octet.
    pub(super) at: usize,
}

/// The zones found so far.
pub(super) struct Zones {
    zones: Vec<ZoneConfig>,
    places: Vec<Place>,
    pub(super) lists: Vec<Arc<Path>>,
}

impl Zones {
    pub(super) fn add(&mut self, zone: ZoneConfig, place: Place) {
        self.zones.push(zone);
        self.places.push(place);
    }

    /// The zones, after those named twice were noted.
    fn unique(self, doc: &Document<'_>) -> Vec<ZoneConfig> {
        let mut first: HashMap<&NameBuf, Place> = HashMap::with_capacity(self.zones.len());
        for (zone, &place) in self.zones.iter().zip(&self.places) {
            let Some(other) = first.insert(&zone.name, place) else { continue };
            first.insert(&zone.name, other);
            let (file, line, _) = self.located(doc, other);
            let advice = format!("remove one (the other: {}:{line})", file.display());
            let message = format!("zone \"{}\" is here twice", zone.name);
            let (file, line, column) = self.located(doc, place);
            let severity = Severity::Error;
            doc.add(Problem { file, line, column, severity, message, advice });
        }
        self.zones
    }

    fn located(&self, doc: &Document<'_>, place: Place) -> (Arc<Path>, usize, usize) {
        match place.list {
            Some(list) => (Arc::clone(&self.lists[usize::from(list)]), place.at, 1),
            None => {
                let (line, column) = doc.place(place.at);
                (Arc::clone(&doc.file), line, column)
            }
        }
    }
}
