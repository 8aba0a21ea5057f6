//! AF_XDP as the configuration says.

use super::ServeError;
use super::listeners::Listeners;
use crate::config::{Config, Io, XdpMode, ZeroCopy};
use crate::io::xdp::{self, Keeper, Mode, Options};
use tracing::warn;

/// Sets AF_XDP up, if that is how packets are to come.
pub(super) fn start(config: &Config, listeners: &Listeners) -> Result<Option<Keeper>, ServeError> {
    if config.server.io != Io::Xdp {
        return Ok(None);
    }
    let xdp = &config.xdp;
    let options = Options {
        interfaces: xdp.interfaces.clone(),
        mode: match xdp.mode {
            XdpMode::Auto => None,
            XdpMode::Native => Some(Mode::Native),
            XdpMode::Generic => Some(Mode::Generic),
        },
        zero_copy: match xdp.zero_copy {
            ZeroCopy::Auto => xdp::ZeroCopy::Auto,
            ZeroCopy::On => xdp::ZeroCopy::On,
            ZeroCopy::Off => xdp::ZeroCopy::Off,
        },
        ring: xdp.ring,
        busy_poll: xdp.busy_poll,
    };
    Ok(Some(Keeper::start(options, &listeners.addresses(), config.server.workers)?))
}

/// Keeps no more rights than AF_XDP needs; to be called before there are threads.
pub(super) fn limit_rights(config: &Config) {
    if config.server.io == Io::Xdp
        && let Err(error) = crate::io::keep_for_xdp()
    {
        warn!(%error, "rights that are not needed could not be given up");
    }
}
