//! The addresses that are listened on: a UDP socket a worker and a TCP listener each.

use super::ServeError;
use crate::io::{self, Bind, Socket};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// All that is bound.
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    /// As configured: port 0 leaves the choice to the system.
    wanted: SocketAddr,
    tcp: TcpListener,
    /// One a worker.
    udp: Vec<Arc<Socket>>,
}

impl Listeners {
    /// Binds all addresses; what `before` has bound already stays as it is.
    pub(super) fn bind(
        wanted: &[SocketAddr],
        workers: usize,
        before: Option<&Self>,
    ) -> Result<Self, ServeError> {
        let known = |address| before?.0.iter().find(|listener| listener.wanted == address);
        let bind = |&address: &SocketAddr| match known(address) {
            Some(listener) => listener.share(),
            None => Listener::bind(address, workers),
        };
        wanted.iter().map(bind).collect::<Result<_, _>>().map(Self)
    }

    /// The addresses, with the ports that were chosen.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(Listener::address).collect()
    }

    /// The TCP listeners, shared.
    pub(super) fn tcp(&self) -> std::io::Result<Vec<TcpListener>> {
        self.0.iter().map(|listener| listener.tcp.try_clone()).collect()
    }

    /// The UDP sockets of a worker.
    pub(super) fn udp(&self, worker: usize) -> Vec<Arc<Socket>> {
        self.0.iter().map(|listener| Arc::clone(&listener.udp[worker])).collect()
    }
}

/// How often a port that the system chose for TCP is tried for UDP.
const PORT_ATTEMPTS: usize = 16;

impl Listener {
    fn bind(wanted: SocketAddr, workers: usize) -> Result<Self, ServeError> {
        let mut attempts = if wanted.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            let tcp = io::listen(wanted).map_err(|error| refused(wanted, "TCP", error))?;
            let address = tcp.local_addr().map_err(|error| refused(wanted, "TCP", error))?;
            let udp = (0..workers).map(|_| io::bind(address, Bind::default()));
            match udp.collect::<std::io::Result<_>>() {
                Ok(udp) => return Ok(Self { wanted, tcp, udp }),
                Err(error) => {
                    attempts -= 1;
                    if attempts == 0 {
                        return Err(refused(wanted, "UDP", error));
                    }
                }
            }
        }
    }

    fn share(&self) -> Result<Self, ServeError> {
        let tcp = self.tcp.try_clone().map_err(|error| refused(self.wanted, "TCP", error))?;
        Ok(Self { wanted: self.wanted, tcp, udp: self.udp.clone() })
    }

    fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap_or(self.wanted)
    }
}

fn refused(address: SocketAddr, protocol: &'static str, error: std::io::Error) -> ServeError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "; another server has it: find out which with `ss -lnp`, stop it, or listen elsewhere"
        }
        ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: see tuning/backstop.service"
        }
        _ => "",
    };
    ServeError::Bind { address, protocol, error, advice }
}
