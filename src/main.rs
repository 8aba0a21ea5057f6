//! `backstop`: reads arguments, calls the command, turns its error into an exit code: 0, 1 for
//! what failed, 2 for arguments that are wrong; `audit` has more of them.

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
        /// Show the server as a whole: what it counted, how long answers took
        #[arg(long, conflicts_with = "zone")]
        server: bool,
        /// Print JSON: an array of zones, or the server as an object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: Server,
    },
    /// Ask the primaries for a newer version of a zone now
    Refresh(Zone),
    /// Transfer all of a zone anew
    Retransfer(Zone),
    /// Tell our own secondaries of the version that is served
    Notify(Zone),
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
    /// Ask every server of a zone, and compare what they say
    #[command(after_help = audit::EXIT_CODES)]
    Audit(Box<audit::Arguments>),
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
    backstop::io::give_back_at_once();
    backstop::io::huge_pages_where_asked_for();
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("backstop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Display>> {
    let find = |at: &Server| command::find_server(at.config.as_deref(), at.control.as_deref());
    let mut out = stdout();
    let done = match command {
        Command::Audit(arguments) => return audit::run(*arguments),
        Command::Serve(Configuration { config }) => return told(server::serve(&config)),
        Command::Demo => return told(demo::run()),
        Command::Check(Configuration { config }) => command::check(&config, &mut out),
        Command::Status { server: true, json, at, .. } => find(&at)
            .and_then(|server| command::server_status(&server, json, &mut out, &mut stderr())),
        Command::Status { zone, json, at, .. } => find(&at).and_then(|server| {
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
        Command::Notify(Zone { zone, at }) => {
            let request = Request::Notify { zone: zone.to_string() };
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
        Err(error) if error.is_reader_gone() => Ok(ExitCode::SUCCESS),
        done => told(done),
    }
}

fn told<E: Display + 'static>(done: Result<(), E>) -> Result<ExitCode, Box<dyn Display>> {
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Box::new(error)),
    }
}

/// `backstop audit`.
mod audit {
    use super::{Display, ExitCode, NameBuf, PathBuf, command, stdout, told};
    use backstop::audit::{Given, Options, address_of};
    use std::net::SocketAddr;
    use std::time::Duration;

    pub(super) const EXIT_CODES: &str = "\
Exit codes, the worst that applies:
  0  all servers answer, with the same data      4  NS sets differ, or lead nowhere
  1  nothing could be asked                      5  a server does not answer as it must
  2  wrong arguments                             6  other data under one serial; serials in conflict
  3  a server is behind                          7  no server answers";

    #[derive(clap::Args)]
    pub(super) struct Arguments {
        /// The zone's name
        zone: NameBuf,
        /// Ask this server; more by repeating it. Without any, the NS set is resolved
        #[arg(long, value_name = "[NAME=]ADDRESS")]
        server: Vec<Given>,
        /// Ask the zone's primaries and the listen addresses of this configuration, too
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Sign requests to the servers with this key of the configuration
        #[arg(long, value_name = "NAME", requires = "config")]
        key: Option<NameBuf>,
        /// Resolve the NS set here, not by the host's resolvers
        #[arg(long, value_name = "ADDRESS", value_parser = address_of)]
        resolver: Vec<SocketAddr>,
        /// Ask this server of the parent for the delegation
        #[arg(long, value_name = "ADDRESS", value_parser = address_of)]
        parent: Vec<SocketAddr>,
        /// The port of servers that are resolved
        #[arg(long, default_value_t = 53)]
        port: u16,
        /// Seconds to wait for a reply
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=60))]
        timeout: u16,
        /// Compare whole zones of up to this many MiB where transfer is allowed; 0: samples only
        #[arg(long, value_name = "MIB", default_value_t = 64)]
        transfer_max: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    }

    pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Display>> {
        let config = arguments.config.as_deref().map(command::load).transpose();
        let done = config.and_then(|config| {
            let options = Options {
                zone: arguments.zone,
                servers: arguments.server,
                config,
                key: arguments.key,
                resolvers: arguments.resolver,
                parents: arguments.parent,
                port: arguments.port,
                patience: Duration::from_secs(arguments.timeout.into()),
                transfer_max: u64::from(arguments.transfer_max) << 20,
            };
            command::audit(&options, arguments.json, &mut stdout())
        });
        match done {
            Ok(code) => Ok(code.into()),
            Err(error) if error.is_reader_gone() => Ok(ExitCode::SUCCESS),
            Err(error) => told(Err(error)),
        }
    }
}
