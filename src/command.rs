//! The commands of `backstop` that ask a running server or check its configuration.
//!
//! `main` reads the arguments and turns errors into exit codes; what the commands do is here.

use crate::audit::{self, AuditError};
use crate::config::{self, Config};
use crate::control::{Client, ClientError, Request, table};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The configuration cannot be used; why has been told, or is told here.
    #[error("{0}")]
    Config(String),
    /// There is nothing to report.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// What was asked for cannot be written.
    #[error("{}: cannot be written: {error}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What was asked for cannot be printed.
    #[error("cannot be printed: {0}")]
    Print(#[from] io::Error),
}

impl Error {
    /// Did whoever reads our output go away, as `head` does? No one needs to be told.
    pub fn is_reader_gone(&self) -> bool {
        match self {
            Self::Print(error) | Self::Client(ClientError::Output(error)) => {
                error.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }
}

/// The server whose control socket is at `control`, or the one that runs by the configuration
/// file, or by the defaults.
///
/// # Errors
/// The configuration file cannot be read, or does not say.
pub fn find_server(config: Option<&Path>, control: Option<&Path>) -> Result<Client, Error> {
    let told = |problems: Vec<config::Problem>| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Error::Config(lines.join("\n"))
    };
    match (control, config) {
        (Some(control), _) => Ok(Client::new(control)),
        (None, Some(config)) => {
            Config::control(config).map(|path| Client::new(&path)).map_err(told)
        }
        (None, None) => Ok(Client::new(&Config::default_control())),
    }
}

/// Prints how the zones are, or all about one: in words, or as a JSON array with a zone a line.
///
/// # Errors
/// No server answers, or it has no such zone.
pub fn status(
    server: &Client,
    zone: Option<&str>,
    json: bool,
    out: &mut impl Write,
    warn: &mut impl Write,
) -> Result<(), Error> {
    let mut out = BufWriter::new(out);
    if json {
        let status = server.raw_status(zone)?;
        warn_of(&status.warnings, warn)?;
        for (at, zone) in status.zones.iter().enumerate() {
            write!(out, "{}{zone}", if at == 0 { "[" } else { ",\n" })?;
        }
        writeln!(out, "{}]", if status.zones.is_empty() { "[" } else { "" })?;
        return Ok(out.flush()?);
    }
    let status = server.status(zone)?;
    warn_of(&status.warnings, warn)?;
    match (zone, &status.zones[..]) {
        (Some(_), [one]) => table::zone(one, &mut out)?,
        (_, zones) => {
            table::zones(zones, &mut out)?;
            for line in &status.io {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(out.flush()?)
}

fn warn_of(warnings: &[String], warn: &mut impl Write) -> io::Result<()> {
    warnings.iter().try_for_each(|warning| writeln!(warn, "warning: {warning}"))
}

/// Prints how the server is as a whole: in words, or as a JSON object.
///
/// # Errors
/// No server answers.
pub fn server_status(
    server: &Client,
    json: bool,
    out: &mut impl Write,
    warn: &mut impl Write,
) -> Result<(), Error> {
    let status = server.server()?;
    warn_of(&status.warnings, warn)?;
    let mut out = BufWriter::new(out);
    if json {
        serde_json::to_writer_pretty(&mut out, &status).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        table::server(&status, &mut out)?;
    }
    Ok(out.flush()?)
}

/// Has the server do something, and prints what it says.
///
/// # Errors
/// No server answers, or it does not do that.
pub fn ask(server: &Client, request: &Request, out: &mut impl Write) -> Result<(), Error> {
    let done = server.command(request)?;
    Ok(writeln!(out, "{}", done.trim_end())?)
}

/// Prints the versions held of a zone, in words or as JSON, or what made one of them.
///
/// # Errors
/// No server answers, or it has no such zone or version.
pub fn history(
    server: &Client,
    zone: &str,
    serial: Option<u32>,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut out = BufWriter::new(out);
    match serial {
        Some(serial) => {
            server.changes(zone, serial, &mut out)?;
        }
        None if json => {
            serde_json::to_writer_pretty(&mut out, &server.history(zone)?)
                .map_err(io::Error::from)?;
            writeln!(out)?;
        }
        None => server.history(zone)?.write(&mut out)?,
    }
    Ok(out.flush()?)
}

/// Writes the zone file of what is served: to a file, which is there in whole or not at all, or
/// else to `out`.
///
/// # Errors
/// No server answers, it has no version of the zone, or the file cannot be written.
pub fn export(
    server: &Client,
    zone: &str,
    file: Option<&Path>,
    out: &mut impl Write,
    warn: &mut impl Write,
) -> Result<(), Error> {
    let exported = match file {
        None => server.export(zone, out)?,
        Some(path) => replace(path, |file| Ok(server.export(zone, file)?))?,
    };
    if exported.expired {
        writeln!(warn, "warning: {} has expired: it is not answered for", exported.zone)?;
    }
    Ok(())
}

/// Makes or replaces the file at `path` by what `fill` writes, once that is on the disk.
fn replace<T>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<T, Error>,
) -> Result<T, Error> {
    let failed = |error| Error::Output { path: path.to_owned(), error };
    let Some(name) = path.file_name() else {
        return Err(failed(io::ErrorKind::InvalidFilename.into()));
    };
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let file = File::create_new(&part).map_err(failed)?;
    let filled = fill(&mut BufWriter::new(&file)).and_then(|filled| {
        file.sync_all().and_then(|()| fs::rename(&part, path)).map_err(failed)?;
        Ok(filled)
    });
    if filled.is_err() {
        // It is of no use to anyone; why it is there is told.
        let _ = fs::remove_file(&part);
    }
    filled
}

/// Prints every mistake of the configuration, or what is in it.
///
/// # Errors
/// It has mistakes.
pub fn check(config: &Path, out: &mut impl Write) -> Result<(), Error> {
    let loaded = Config::load(config);
    write!(out, "{}", config::report(&loaded))?;
    loaded.map(|_| ()).map_err(|_| {
        Error::Config(format!("{}: the configuration cannot be used", config.display()))
    })
}

/// Asks every server of a zone and prints how they are: as a table, or in JSON. What to exit with.
///
/// # Errors
/// There is nobody to ask.
pub fn audit(options: &audit::Options, json: bool, out: &mut impl Write) -> Result<u8, Error> {
    let report = audit::audit(options)?;
    let mut out = BufWriter::new(out);
    if json {
        serde_json::to_writer_pretty(&mut out, &report.json()).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        report.words(&mut out)?;
    }
    out.flush()?;
    Ok(report.verdict.exit_code())
}

/// The configuration at `path`.
///
/// # Errors
/// It has mistakes.
pub fn load(path: &Path) -> Result<Config, Error> {
    let loaded = Config::load(path);
    let told = |mistakes| Error::Config(config::report(&Err(mistakes)));
    loaded.map(|(config, _)| config).map_err(told)
}
