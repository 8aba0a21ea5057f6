//! `backstop`: reads arguments, calls the command, turns its error into an exit code: 0, 1 for
//! what failed, 2 for arguments that are wrong.

use backstop::control::Request;
use backstop::name::NameBuf;
use backstop::{command, demo, server};
use clap::{Args, Parser, Subcommand};
use std::fmt::Display;
use std::io::{stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

// Versions of zones are freed by another thread than built them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An authoritative secondary DNS server: copies zones, keeps them, answers for them while the
/// primary is down.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server, in the foreground; SIGHUP re-reads the configuration, SIGTERM ends it
    Serve(Configuration),
    /// Tell every mistake in a configuration, and what to write instead
    Check(Configuration),
    /// Try it without any configuration: a primary and a secondary of it on 127.0.0.1:5300
    Demo,
    /// Show how the zones are, those in trouble first
    Status {
        /// Show all about this zone
        zone: Option<NameBuf>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: Server,
    },
    /// Ask the primaries for a newer version of a zone now
    Refresh(Zone),
    /// Transfer all of a zone anew
    Retransfer(Zone),
    /// Serve the version that a check has refused
    Approve(Zone),
    /// Serve an older version again, and do not take the newer one from the primary any more
    Rollback {
        #[command(flatten)]
        zone: Zone,
        /// Serve this version; without it, the one before what is served
        serial: Option<u32>,
        /// Take no version at all afterwards, not even a newer one, until one is approved
        #[arg(long)]
        hold: bool,
    },
    /// Show the versions held, or what changed in one of them
    History {
        #[command(flatten)]
        zone: Zone,
        /// Show what made this version: "-" before what went, "+" before what came
        serial: Option<u32>,
        /// Print JSON
        #[arg(long, conflicts_with = "serial")]
        json: bool,
    },
    /// Write the zone file of what is served
    Export {
        #[command(flatten)]
        zone: Zone,
        /// Write to this file instead of the standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Have the server re-read its configuration, as on SIGHUP
    Reload(Server),
}

#[derive(Args)]
struct Configuration {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Which server is meant; none of both: the one that runs by the defaults.
#[derive(Args)]
struct Server {
    /// The configuration file of the server, which says where its control socket is
    #[arg(long, short, value_name = "FILE", conflicts_with = "control")]
    config: Option<PathBuf>,
    /// The control socket of the server
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

#[derive(Args)]
struct Zone {
    /// The zone's name
    zone: NameBuf,
    #[command(flatten)]
    at: Server,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backstop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Display>> {
    let find = |at: &Server| command::find_server(at.config.as_deref(), at.control.as_deref());
    let mut out = stdout();
    let done = match command {
        Command::Serve(Configuration { config }) => return told(server::serve(&config)),
        Command::Demo => return told(demo::run()),
        Command::Check(Configuration { config }) => command::check(&config, &mut out),
        Command::Status { zone, json, at } => find(&at).and_then(|server| {
            let zone = zone.map(|zone| zone.to_string());
            command::status(&server, zone.as_deref(), json, &mut out, &mut stderr())
        }),
        Command::Refresh(Zone { zone, at }) => {
            let request = Request::Refresh { zone: zone.to_string() };
            find(&at).and_then(|server| command::ask(&server, &request, &mut out))
        }
        Command::Retransfer(Zone { zone, at }) => {
            let request = Request::Retransfer { zone: zone.to_string() };
            find(&at).and_then(|server| command::ask(&server, &request, &mut out))
        }
        Command::Approve(Zone { zone, at }) => {
            let request = Request::Approve { zone: zone.to_string() };
            find(&at).and_then(|server| command::ask(&server, &request, &mut out))
        }
        Command::Rollback { zone: Zone { zone, at }, serial, hold } => {
            let request = Request::Rollback { zone: zone.to_string(), serial, hold };
            find(&at).and_then(|server| command::ask(&server, &request, &mut out))
        }
        Command::History { zone: Zone { zone, at }, serial, json } => {
            let zone = zone.to_string();
            find(&at).and_then(|server| command::history(&server, &zone, serial, json, &mut out))
        }
        Command::Export { zone: Zone { zone, at }, output } => find(&at).and_then(|server| {
            let zone = zone.to_string();
            command::export(&server, &zone, output.as_deref(), &mut out, &mut stderr())
        }),
        Command::Reload(at) => {
            find(&at).and_then(|server| command::ask(&server, &Request::Reload {}, &mut out))
        }
    };
    match done {
        Err(error) if error.is_reader_gone() => Ok(()),
        done => told(done),
    }
}

fn told<E: Display + 'static>(done: Result<(), E>) -> Result<(), Box<dyn Display>> {
    done.map_err(|error| -> Box<dyn Display> { Box::new(error) })
}
