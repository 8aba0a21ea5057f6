//! What a version must pass before it is served.
//!
//! **How it fits.** The replica hands over each candidate with the version held: what
//! [`Rules::at_once`] asks is known without looking at the zone; what [`Rules::with_care`] asks
//! costs up to the zone's size and has a thread of its own. A refused candidate is held, the old
//! version stays served, until the operator approves it or the primary sends a better one.
//!
//! **Invariants.**
//! - *free by default*: the checks that are on where nothing is configured cost nothing that
//!   grows with the zone or with the change.
//! - *only a word*: a check changes nothing. What a refusal means is the replica's to decide.
//!
//! **Sections.** RFC 1034 section 4.2.1 (the apex has NS records), RFC 8976 (ZONEMD), RFC 4034
//! and 4035 (DNSSEC).
//!
//! A zone without exactly one SOA record at its apex never gets here: no [`Zone`] is made of it.

mod canonical;
mod dnssec;
mod zonemd;

pub use dnssec::{Anchor, DnssecError, Ending, Fault};
pub use zonemd::ZonemdError;

use crate::wire::Rtype;
use crate::zone::{Diff, Zone};

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The apex must have NS records.
    pub apex: bool,
    /// How much a zone may shrink at once; `None`: to nothing.
    pub shrink: Option<Shrink>,
    /// What the zone's own digest must be.
    pub zonemd: Zonemd,
    /// What the zone must be signed from; empty: it need not be.
    pub anchors: Vec<Anchor>,
}

/// How much a zone may lose from one version to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shrink {
    /// At most so many of a hundred names.
    pub percent: u8,
    /// Zones of so many names or fewer may do as they like.
    pub names: usize,
}

/// What is asked of ZONEMD records (RFC 8976).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zonemd {
    /// Nothing.
    Off,
    /// If the zone has any with a scheme and an algorithm that we know, one must be right.
    IfPresent,
    /// One must be there and right.
    Required,
}

/// Why a candidate is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no name server.
    #[error("the zone's apex has no NS record")]
    NoNs,
    /// Too much is gone.
    #[error(
        "{} of {before} names are gone, more than the {percent} % that `shrink-guard` allows",
        before - after
    )]
    Shrunk {
        /// Names of the version held.
        before: usize,
        /// Names of the candidate.
        after: usize,
        /// What is allowed.
        percent: u8,
    },
    /// The digest is not that of the zone.
    #[error("ZONEMD: {0}")]
    Zonemd(#[from] ZonemdError),
    /// It is not signed as it should be.
    #[error("DNSSEC: {0}")]
    Dnssec(#[from] DnssecError),
}

impl Refusal {
    /// The check, in a word: the key that configures it.
    pub fn check(&self) -> &'static str {
        match self {
            Self::NoNs => "check-apex",
            Self::Shrunk { .. } => "shrink-guard",
            Self::Zonemd(_) => "zonemd",
            Self::Dnssec(_) => "trust-anchor",
        }
    }

    /// Is there nothing wrong with the candidate but that its time has not come?
    pub fn is_early(&self) -> bool {
        matches!(self, Self::Dnssec(DnssecError::Signature(_, _, Fault::NotYet)))
    }
}

impl Default for Rules {
    /// What holds where nothing is configured: the apex has NS records, and no zone of over 1,000
    /// names loses more than half of them.
    fn default() -> Self {
        let shrink = Some(Shrink { percent: 50, names: 1000 });
        Self { apex: true, shrink, zonemd: Zonemd::Off, anchors: Vec::new() }
    }
}

impl Rules {
    /// Passes or refuses by what is known at once, in a time that does not grow with the zone.
    /// `held` is the version that `candidate` is to replace, if there is one.
    ///
    /// # Errors
    /// The candidate is refused.
    pub fn at_once(&self, candidate: &Zone, held: Option<&Zone>) -> Result<(), Refusal> {
        if self.apex && candidate.apex_node().find(Rtype::NS).is_none() {
            return Err(Refusal::NoNs);
        }
        if let (Some(shrink), Some(held)) = (self.shrink, held) {
            shrink.check(candidate.names().len(), held.names().len())?;
        }
        Ok(())
    }

    /// Is there anything that [`with_care`](Self::with_care) would look at?
    pub fn need_care(&self) -> bool {
        self.zonemd != Zonemd::Off || !self.anchors.is_empty()
    }

    /// Passes or refuses by the zone's content: takes up to as long as verifying all of it. What is
    /// `since` a version that has passed before need not be more than the differences from
    /// that. `now_s` is seconds since 1970, as far as 32 bits.
    ///
    /// # Errors
    /// The candidate is refused.
    pub fn with_care(
        &self,
        candidate: &Zone,
        since: Option<(&Zone, &[&Diff])>,
        now_s: u32,
    ) -> Result<(), Refusal> {
        zonemd::check(candidate, self.zonemd)?;
        if !self.anchors.is_empty() {
            dnssec::check(candidate, &self.anchors, since, now_s)?;
        }
        Ok(())
    }
}

impl Shrink {
    /// Names are counted without the owners of NSEC3 records: those come and go with the way that
    /// names are denied.
    fn check(self, after: usize, before: usize) -> Result<(), Refusal> {
        let percent = self.percent;
        let gone = before.saturating_sub(after) as u128;
        let too_much = gone * 100 > before as u128 * u128::from(percent);
        if before > self.names && too_much {
            return Err(Refusal::Shrunk { before, after, percent });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameBuf;
    use crate::zone::file::{Limits, read_text};
    use std::fmt::Write as _;
    use std::path::Path;

    fn zone(text: &str) -> Zone {
        let apex: NameBuf = "example.".parse().unwrap();
        let path = Path::new("zone");
        read_text(text.as_bytes(), path, apex.as_name(), Limits::default())
            .unwrap()
            .build()
            .unwrap()
    }

    fn with_names(count: usize) -> Zone {
        let mut text = "@ 60 SOA ns admin 1 1 1 1 1\n@ 60 NS ns\n".to_owned();
        for i in 1..count {
            writeln!(text, "n{i} 60 A 192.0.2.1\nn{i} 60 TXT more").unwrap();
        }
        zone(&text)
    }

    #[test]
    fn a_zone_without_name_servers_is_refused_unless_that_is_wanted() {
        let bare = zone("@ 60 SOA ns admin 1 1 1 1 1\nsub 60 NS ns\n");
        assert_eq!(Rules::default().at_once(&bare, None), Err(Refusal::NoNs));
        let any = Rules { apex: false, ..Rules::default() };
        assert_eq!(any.at_once(&bare, None), Ok(()));
        assert_eq!(Rules::default().at_once(&with_names(1), None), Ok(()));
    }

    #[test]
    fn a_large_zone_may_lose_half_of_its_names_and_no_more() {
        let rules = Rules::default();
        let large = with_names(1001);
        assert_eq!(rules.at_once(&large, None), Ok(()));
        assert_eq!(rules.at_once(&with_names(501), Some(&large)), Ok(()));
        let refused = rules.at_once(&with_names(500), Some(&large)).unwrap_err();
        assert_eq!(refused, Refusal::Shrunk { before: 1001, after: 500, percent: 50 });
        assert_eq!(
            refused.to_string(),
            "501 of 1001 names are gone, more than the 50 % that `shrink-guard` allows"
        );
        assert_eq!(rules.at_once(&with_names(3000), Some(&large)), Ok(()), "it may grow");
        let small = with_names(1000);
        assert_eq!(rules.at_once(&with_names(1), Some(&small)), Ok(()), "a small zone may");
    }

    #[test]
    fn how_much_a_zone_may_shrink_is_configured() {
        let held = with_names(100);
        let after = |names, percent, least| {
            let shrink = Some(Shrink { percent, names: least });
            Rules { shrink, ..Rules::default() }.at_once(&with_names(names), Some(&held)).is_ok()
        };
        assert!(after(90, 10, 99) && !after(89, 10, 99) && after(89, 10, 100));
        assert!(after(1, 99, 0) && after(100, 0, 0) && !after(99, 0, 0));
        let off = Rules { shrink: None, ..Rules::default() };
        assert!(off.at_once(&with_names(1), Some(&with_names(5000))).is_ok());
    }

    #[test]
    fn by_default_no_check_reads_the_zone() {
        assert!(!Rules::default().need_care());
        assert!(Rules { zonemd: Zonemd::IfPresent, ..Rules::default() }.need_care());
    }
}
