//! Why AF_XDP does not serve an interface, and what to do about it.

use std::io;
use std::net::SocketAddr;

use super::device::Unfit;
use super::socket::Refusal;

/// Why listen addresses do not say which interfaces AF_XDP is to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Aimless {
    /// A wildcard address names no interface.
    #[error(
        "a wildcard among the listen addresses does not say which interfaces AF_XDP is to serve"
    )]
    Wildcard,
    /// There is nothing to listen on that a card could bring.
    #[error("all listen addresses are of loopback, where AF_XDP is of no use")]
    Loopback,
}

impl Aimless {
    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Wildcard => "write interfaces = [\"NAME\"] in [xdp]",
            Self::Loopback => "listen on others, or write io = \"auto\"",
        }
    }
}

/// Do these names, or without any the listen addresses, say which interfaces are to be served?
///
/// # Errors
/// They do not.
pub fn aim(interfaces: &[String], listening: &[SocketAddr]) -> Result<(), Aimless> {
    if !interfaces.is_empty() {
        return Ok(());
    }
    if listening.iter().any(|address| address.ip().is_unspecified()) {
        return Err(Aimless::Wildcard);
    }
    if listening.iter().all(|address| address.ip().is_loopback()) {
        return Err(Aimless::Loopback);
    }
    Ok(())
}

/// Why an interface is not served by AF_XDP.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The listen addresses lead to no interface.
    #[error("{0}; {advice}", advice = .0.advice())]
    Aimless(#[from] Aimless),
    /// No such interface, or no longer.
    #[error("there is no interface {0}; `ip link` shows those there are")]
    Absent(String),
    /// It is not up.
    #[error("{0} is down; `ip link set {0} up`")]
    Down(String),
    /// It is no Ethernet card, and not like one.
    #[error("{0} is no Ethernet interface; write others as interfaces in [xdp]")]
    NoEthernet(String),
    /// No reply fits its packets.
    #[error("{name} has an MTU of {mtu}; `ip link set {name} mtu {}`, at least", super::MTU_MIN)]
    SmallMtu {
        /// The interface.
        name: String,
        /// Its MTU.
        mtu: u32,
    },
    /// A capability is missing.
    #[error(
        "AF_XDP is not permitted ({what}: {error}); it needs CAP_NET_ADMIN, CAP_NET_RAW and \
         CAP_BPF: tuning/backstop-xdp.conf gives them"
    )]
    Rights {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// Not enough memory may be locked.
    #[error(
        "AF_XDP needs {} KiB of locked memory for each of the {queues} queues of {name}; raise the \
         limit (LimitMEMLOCK in the unit, `ulimit -l`), or write a smaller `ring` in [xdp]",
        octets >> 10
    )]
    Memory {
        /// The interface.
        name: String,
        /// For each queue.
        octets: usize,
        /// How many there are.
        queues: u32,
    },
    /// Somebody's program is there.
    #[error(
        "{0} has an XDP program of someone else's, which is left alone; see `ip link show {0}`, \
         stop who put it there, or, if nobody is left, `ip link set {0} xdp off`"
    )]
    Occupied(String),
    /// Somebody has one of its queues.
    #[error("queue {queue} of {name} is taken by another AF_XDP socket; stop who has it")]
    QueueBusy {
        /// The interface.
        name: String,
        /// The queue.
        queue: u32,
    },
    /// Zero-copy is asked for.
    #[error("{0} has no zero-copy; write zero-copy = \"auto\" in [xdp]")]
    NoZeroCopy(String),
    /// The driver refuses the program.
    #[error(
        "the driver of {name} does not take an XDP program ({error}); a smaller MTU or more queues \
         may change its mind (`dmesg` may say), or write mode = \"auto\" in [xdp]"
    )]
    NoNative {
        /// The interface.
        name: String,
        /// What the driver says.
        error: io::Error,
    },
    /// Something else.
    #[error("AF_XDP on {name}: {what}: {error}")]
    Other {
        /// The interface.
        name: String,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl SetUpError {
    /// Can time cure it, so that a server starts all the same and goes on trying?
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Absent(_) | Self::Down(_)) || self.is_busy()
    }

    /// Is it someone else's, perhaps only for a moment?
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Occupied(_) | Self::QueueBusy { .. })
    }

    pub(super) fn system(name: &str, what: &'static str, error: io::Error) -> Self {
        let name = name.to_owned();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Rights { what, error },
            Some(libc::ENETDOWN) => Self::Down(name),
            Some(libc::ENODEV | libc::ENXIO) => Self::Absent(name),
            _ => Self::Other { name, what, error },
        }
    }

    pub(super) fn unfit(name: &str, unfit: Unfit) -> Self {
        match unfit {
            Unfit::Absent => Self::Absent(name.to_owned()),
            Unfit::NoEthernet => Self::NoEthernet(name.to_owned()),
            Unfit::Unknown(error) => Self::system(name, "looking at it", error),
        }
    }

    pub(super) fn refused(name: &str, queue: u32, queues: u32, refusal: Refusal) -> Self {
        let owned = || name.to_owned();
        match refusal {
            Refusal::Memory(octets) => Self::Memory { name: owned(), octets, queues },
            Refusal::Busy => Self::QueueBusy { name: owned(), queue },
            Refusal::NoZeroCopy => Self::NoZeroCopy(owned()),
            Refusal::Other(what, error) => Self::system(name, what, error),
        }
    }
}
