//! The commands' side of the control socket.

use super::{Changes, Done, Exported, History, PATIENCE, Refused, Request, ServerStatus, Status};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Why a command is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no server.
    #[error(
        "no server answers at {} ({error}): is it running? give --config or --control",
        path.display()
    )]
    Unreachable {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The socket is not ours to use.
    #[error("{}: permission denied: run this as the server's user or as root", .0.display())]
    Forbidden(PathBuf),
    /// The server says no.
    #[error("{0}")]
    Refused(String),
    /// The reply did not come, or not all of it.
    #[error("the server at {} broke off: {error}", path.display())]
    Lost {
        /// Where it is.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// What it replied is no reply.
    #[error("what answers at {} is no Backstop of this version: {what}", path.display())]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with the reply.
        what: String,
    },
    /// What was asked for cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
}

/// A server to command.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The server whose control socket is at `path`; connected to for each command.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// How one zone is, or all.
    ///
    /// # Errors
    /// No server answers, or it has no such zone.
    pub fn status(&self, zone: Option<&str>) -> Result<Status, ClientError> {
        Ok(self.ask(&Request::Status { zone: zone.map(str::to_owned) })?.0)
    }

    /// The same, each zone in the JSON that the server sends.
    ///
    /// # Errors
    /// No server answers, or it has no such zone.
    pub fn raw_status(
        &self,
        zone: Option<&str>,
    ) -> Result<Status<Vec<Box<RawValue>>>, ClientError> {
        Ok(self.ask(&Request::Status { zone: zone.map(str::to_owned) })?.0)
    }

    /// How the server is as a whole.
    ///
    /// # Errors
    /// No server answers.
    pub fn server(&self) -> Result<ServerStatus, ClientError> {
        Ok(self.ask(&Request::Server {})?.0)
    }

    /// Has a command carried out that is replied to with words.
    ///
    /// # Errors
    /// No server answers, or it does not do that.
    pub fn command(&self, request: &Request) -> Result<String, ClientError> {
        self.ask::<Done>(request).map(|(reply, _)| reply.done)
    }

    /// The versions held of a zone.
    ///
    /// # Errors
    /// No server answers, or it has no such zone.
    pub fn history(&self, zone: &str) -> Result<History, ClientError> {
        Ok(self.ask(&Request::History { zone: zone.to_owned() })?.0)
    }

    /// Writes what made the version `serial` to `out`, a line for each record.
    ///
    /// # Errors
    /// No server answers, it has no such version, or it does not send all of it.
    pub fn changes(
        &self,
        zone: &str,
        serial: u32,
        out: &mut impl Write,
    ) -> Result<Changes, ClientError> {
        let request = Request::Changes { zone: zone.to_owned(), serial };
        let (changes, stream) = self.ask::<Changes>(&request)?;
        self.copy(stream, changes.lines, out)?;
        Ok(changes)
    }

    /// Writes the zone file of the version served to `out`.
    ///
    /// # Errors
    /// No server answers, it has no such zone, or it does not send all of it.
    pub fn export(&self, zone: &str, out: &mut impl Write) -> Result<Exported, ClientError> {
        let (exported, stream) =
            self.ask::<Exported>(&Request::Export { zone: zone.to_owned() })?;
        self.copy(stream, exported.records, out)?;
        Ok(exported)
    }

    /// Copies what follows a reply, which must be so many lines.
    fn copy(
        &self,
        mut stream: BufReader<UnixStream>,
        wanted: u64,
        out: &mut impl Write,
    ) -> Result<(), ClientError> {
        let mut lines = 0;
        loop {
            let part = stream.fill_buf().map_err(|error| self.lost(error))?;
            if part.is_empty() {
                break;
            }
            lines += part.iter().filter(|&&octet| octet == b'\n').count() as u64;
            out.write_all(part).map_err(ClientError::Output)?;
            let len = part.len();
            stream.consume(len);
        }
        out.flush().map_err(ClientError::Output)?;
        if lines != wanted {
            let what = format!("{lines} of {wanted} records came");
            return Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, what)));
        }
        Ok(())
    }

    fn ask<R: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<(R, BufReader<UnixStream>), ClientError> {
        let mut stream = self.connect()?;
        let mut line = serde_json::to_vec(request).expect("a request has a JSON form");
        line.push(b'\n');
        let mut reply = Vec::new();
        // A server that refuses a client early may have closed before it has read the request.
        let sent = stream.write_all(&line);
        let mut stream = BufReader::with_capacity(64 * 1024, stream);
        let read = stream.read_until(b'\n', &mut reply).map_err(|error| self.lost(error))?;
        if read == 0 {
            sent.map_err(|error| self.lost(error))?;
            return Err(self.lost(io::ErrorKind::UnexpectedEof.into()));
        }
        // No other reply begins so; a status of 100,000 zones is not to be read twice.
        if reply.starts_with(b"{\"error\"")
            && let Ok(Refused { error }) = serde_json::from_slice(&reply)
        {
            return Err(ClientError::Refused(error));
        }
        let reply = serde_json::from_slice(&reply).map_err(|error| ClientError::Foreign {
            path: self.path.clone(),
            what: error.to_string(),
        })?;
        Ok((reply, stream))
    }

    fn connect(&self) -> Result<UnixStream, ClientError> {
        let stream = UnixStream::connect(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(self.path.clone()),
            _ => ClientError::Unreachable { path: self.path.clone(), error },
        })?;
        let patient = stream
            .set_read_timeout(Some(2 * PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        patient.map_err(|error| self.lost(error))?;
        Ok(stream)
    }

    fn lost(&self, error: io::Error) -> ClientError {
        ClientError::Lost { path: self.path.clone(), error }
    }
}
