//! What is wrong with a configuration, as the operator is told.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{Loaded, Source};

/// One mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Whether it can be lived with.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub advice: String,
}

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but is hardly what was meant.
    Warning,
}

/// `file:line:column: what is wrong: what to write instead`, a warning marked as one.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        write!(f, "{}: {}", self.message, self.advice)
    }
}

/// What `check` prints: a line for each problem, then how many, or what was found good.
pub fn report(loaded: &Loaded) -> String {
    let problems = match loaded {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    let lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    let warnings = problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let last = match loaded {
        Err(_) => {
            let errors = counted(problems.len() - warnings, "error");
            format!("{errors}, {}", counted(warnings, "warning"))
        }
        Ok((config, _)) => {
            let from_files = |zone: &&super::ZoneConfig| match zone.settings.source {
                Source::File(_) => true,
                Source::Primaries(_) => false,
            };
            let files = config.zones.iter().filter(from_files).count();
            format!(
                "ok: {} ({} from primaries, {files} from files), {}, {}, {}",
                counted(config.zones.len(), "zone"),
                config.zones.len() - files,
                counted(config.keys.len(), "key"),
                counted(config.server.listen.len(), "listen address"),
                counted(warnings, "warning"),
            )
        }
    };
    lines + &last + "\n"
}

fn counted(count: usize, what: &str) -> String {
    match (count, what.ends_with('s')) {
        (1, _) => format!("1 {what}"),
        (_, true) => format!("{count} {what}es"),
        (_, false) => format!("{count} {what}s"),
    }
}
