//! The numbers that `/metrics` tells.

use super::Parts;
use crate::replica::{State, ZoneStatus};
use crate::store::Disk;
use crate::wire::Rcode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use std::fmt;
use std::fs;
use std::sync::atomic::Ordering;

/// Zones whose numbers are told at the most; those in trouble go first.
pub(super) const ZONES_MAX: usize = 10_000;

/// A counter's name, meaning and number.
type Count = (&'static str, &'static str, u64);

/// All the numbers at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    ready: bool,
    served: Vec<Count>,
    /// Replies by rcode; the last place is for all that are not told apart.
    rcodes: Vec<u64>,
    replicated: Vec<Count>,
    configured: usize,
    zones: Zones,
    /// In full, if they were asked for.
    each: Option<Vec<ZoneStatus>>,
    disk: Disk,
    process: Process,
}

/// The zones in a few numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Zones {
    states: [u64; STATES.len()],
    /// Seconds until the first of those that are served expires.
    soonest_expiry_s: Option<u64>,
    /// Seconds since the good contact that is longest ago.
    oldest_contact_s: Option<u64>,
}

const STATES: [State; 7] = [
    State::Expired,
    State::NeverLoaded,
    State::HeldByCheck,
    State::Stale,
    State::Diverged,
    State::Refreshing,
    State::Ok,
];

impl Zones {
    fn of(zones: &[ZoneStatus]) -> Self {
        let count = |state| zones.iter().filter(|zone| zone.state == state).count() as u64;
        let fresh =
            zones.iter().filter(|zone| zone.serial.is_some() && zone.state != State::Expired);
        Self {
            states: STATES.map(count),
            soonest_expiry_s: fresh.filter_map(|zone| zone.expires_in_s).min(),
            oldest_contact_s: zones.iter().filter_map(|zone| zone.last_contact_s).max(),
        }
    }

    /// How many are answered for.
    fn served(&self) -> u64 {
        let with_data = STATES.iter().zip(self.states);
        let served =
            with_data.filter(|(state, _)| !matches!(state, State::Expired | State::NeverLoaded));
        served.map(|(_, count)| count).sum()
    }
}

/// What the process takes of the machine; nothing where the system does not tell.
#[derive(Debug, Default)]
struct Process {
    resident_octets: Option<u64>,
    cpu_s: Option<f64>,
}

impl Process {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self { resident_octets: resident_octets(&status), cpu_s: cpu_s(&stat) }
    }
}

fn resident_octets(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// User and system time are the 14th and the 15th field of /proc/self/stat (proc_pid_stat(5)), in
/// hundredths of a second; the 2nd is a name in brackets that may hold anything.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((f64::from(user) + f64::from(system)) / 100.0)
}

impl Snapshot {
    /// Gathers the numbers.
    pub(super) async fn take(parts: &Parts, with_zones: bool) -> Self {
        let mut each = parts.replica.status(None).await;
        let zones = Zones::of(&each);
        if with_zones {
            each.sort_by_key(|zone| zone.state);
        }
        Self {
            ready: parts.ready.load(Ordering::Relaxed),
            served: parts.stats.served(),
            rcodes: parts.stats.rcodes().to_vec(),
            replicated: parts.stats.replicated.each().collect(),
            configured: parts.views.load().len(),
            zones,
            each: with_zones.then_some(each),
            disk: (parts.disk)(),
            process: Process::now(),
        }
    }

    /// The numbers in OpenMetrics text.
    pub(super) fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("writing to a string does not fail");
        page
    }

    fn server(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let build = &[("version", env!("CARGO_PKG_VERSION"))];
        gauges(to, "backstop_build_info", "The version that runs", [(build, 1_u64)])?;
        gauge(to, "backstop_ready", "Whether it answers", u64::from(self.ready))?;
        for &(name, help, count) in self.served.iter().chain(&self.replicated) {
            counter(to, &format!("backstop_{name}"), help, count)?;
        }
        let mut metric =
            to.encode_descriptor("backstop_rcodes", "Replies by rcode", None, MetricType::Counter)?;
        for (rcode, count) in (0_u16..).zip(&self.rcodes) {
            let other = usize::from(rcode) + 1 == self.rcodes.len();
            let rcode = if other { "other".into() } else { Rcode(rcode).to_string() };
            // Most rcodes never happen.
            if *count > 0 {
                let labels = [("rcode", rcode)];
                ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn zones(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let states = STATES.map(|state| [("state", state.to_string())]);
        let states = states.iter().zip(self.zones.states);
        gauges(to, "backstop_zones", "Zones by state", states)?;
        gauge(to, "backstop_zones_configured", "Zones configured", self.configured as u64)?;
        gauge(to, "backstop_zones_served", "Zones answered for", self.zones.served())?;
        if let Some(s) = self.zones.soonest_expiry_s {
            let help = "Seconds until the first of the zones served expires";
            gauge(to, "backstop_soonest_expiry_seconds", help, s)?;
        }
        if let Some(s) = self.zones.oldest_contact_s {
            let help = "Seconds since the good contact with a primary that is longest ago";
            gauge(to, "backstop_oldest_contact_seconds", help, s)?;
        }
        Ok(())
    }

    fn each_zone(&self, all: &[ZoneStatus], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let told = &all[..all.len().min(ZONES_MAX)];
        let labels: Vec<_> = told.iter().map(|zone| [("zone", &*zone.zone)]).collect();
        let numbers = |number: fn(&ZoneStatus) -> Option<u64>| {
            let numbers = labels.iter().zip(told);
            numbers.filter_map(move |(label, zone)| Some((label, number(zone)?)))
        };
        let serials = numbers(|zone| zone.serial.map(u64::from));
        gauges(to, "backstop_zone_serial", "Serial served", serials)?;
        let contacts = numbers(|zone| zone.last_contact_s);
        let help = "Seconds since the last good contact with a primary";
        gauges(to, "backstop_zone_last_contact_seconds", help, contacts)?;
        let expiries = numbers(|zone| zone.expires_in_s);
        gauges(to, "backstop_zone_expires_in_seconds", "Seconds until it expires", expiries)?;
        let left_out = (all.len() - told.len()) as u64;
        gauge(to, "backstop_zones_left_out", "Zones whose numbers are not told here", left_out)
    }

    fn machine(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Disk { file_len, queued, error, .. } = &self.disk;
        gauge(to, "backstop_store_bytes", "Octets of the store's file", *file_len)?;
        gauge(to, "backstop_store_queued", "Changes that wait for the store", *queued as u64)?;
        let failing = u64::from(error.is_some());
        gauge(to, "backstop_store_failing", "Whether the last commit failed", failing)?;
        if let Some(octets) = self.process.resident_octets {
            gauge(to, "process_resident_memory_bytes", "Memory in use", octets)?;
        }
        if let Some(seconds) = self.process.cpu_s {
            let help = "User and system time";
            counter(to, "process_cpu_seconds", help, seconds)?;
        }
        Ok(())
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        self.server(&mut to)?;
        self.zones(&mut to)?;
        if let Some(all) = &self.each {
            self.each_zone(all, &mut to)?;
        }
        self.machine(&mut to)
    }
}

fn counter<N: EncodeCounterValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    count: N,
) -> fmt::Result {
    let metric = to.encode_descriptor(name, help.trim(), None, MetricType::Counter)?;
    ConstCounter::new(count).encode(metric)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn gauges<'l, const N: usize, V: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (&'l [(&'l str, impl AsRef<str> + 'l); N], V)>,
) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        let labels = labels.each_ref().map(|(key, text)| (*key, text.as_ref()));
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(zone: &str, state: State, expires_in_s: u64) -> ZoneStatus {
        ZoneStatus {
            zone: zone.into(),
            state,
            serial: (state != State::NeverLoaded).then_some(7),
            records: 3,
            last_contact_s: Some(expires_in_s / 2),
            refresh_in_s: 1,
            expires_in_s: (state != State::NeverLoaded).then_some(expires_in_s),
            primary: None,
            same_serial_difference: false,
            versions_held: 0,
            held: None,
            error: None,
            last_transfer: None,
            primaries: Vec::new(),
        }
    }

    fn snapshot(each: Option<Vec<ZoneStatus>>) -> Snapshot {
        let all = each.clone().unwrap_or_default();
        Snapshot {
            ready: true,
            served: vec![("requests", " Requests received.", 12)],
            rcodes: vec![9, 0, 0, 2, 1],
            replicated: vec![("axfrs", " Whole zones received.", 3)],
            configured: all.len(),
            zones: Zones::of(&all),
            each,
            disk: Disk { file_len: 4096, queued: 2, error: Some("no".into()), full: false },
            process: Process { resident_octets: Some(8192), cpu_s: Some(1.25) },
        }
    }

    #[test]
    fn zones_are_summed_up_by_state_and_by_what_is_most_urgent() {
        let all = [
            status("a.", State::Ok, 500),
            status("b.", State::Stale, 40),
            status("c.", State::Expired, 0),
            status("d.", State::NeverLoaded, 0),
        ];
        let zones = Zones::of(&all);
        assert_eq!(zones.states, [1, 1, 0, 1, 0, 0, 1]);
        assert_eq!((zones.served(), zones.soonest_expiry_s), (2, Some(40)));
        assert_eq!(zones.oldest_contact_s, Some(250));
        assert_eq!(Zones::of(&[]), Zones::default());
    }

    #[test]
    fn the_page_has_each_number_with_its_meaning() {
        let page = snapshot(None).text();
        for line in [
            "# HELP backstop_requests Requests received.",
            "# TYPE backstop_requests counter",
            "backstop_requests_total 12",
            "backstop_axfrs_total 3",
            "backstop_rcodes_total{rcode=\"NOERROR\"} 9",
            "backstop_rcodes_total{rcode=\"NXDOMAIN\"} 2",
            "backstop_rcodes_total{rcode=\"other\"} 1",
            "backstop_zones{state=\"never-loaded\"} 0",
            "backstop_ready 1",
            "backstop_store_failing 1",
            "backstop_store_queued 2",
            "process_resident_memory_bytes 8192",
            "process_cpu_seconds_total 1.25",
            concat!("backstop_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("backstop_zone_serial"));
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn each_zone_is_told_if_asked_for_up_to_a_limit() {
        let many = (0..=ZONES_MAX).map(|i| status(&format!("z{i}.\\\""), State::Ok, 9)).collect();
        let page = snapshot(Some(many)).text();
        let serials = page.lines().filter(|line| line.starts_with("backstop_zone_serial{"));
        assert_eq!(serials.count(), ZONES_MAX);
        assert!(page.contains("backstop_zone_expires_in_seconds{zone=\"z0.\\\\\\\"\"} 9\n"));
        assert!(page.contains("backstop_zones_left_out 1\n"));
    }

    #[test]
    fn the_process_is_read_as_the_system_writes_it() {
        assert_eq!(resident_octets("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(cpu_s(stat), Some(3.0));
        let here = Process::now();
        assert!(here.resident_octets.unwrap() > 100_000 && here.cpu_s.is_some());
    }
}
