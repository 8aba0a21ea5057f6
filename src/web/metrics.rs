//! The numbers that `/metrics` tells.

use super::Parts;
use crate::io::xdp::{Mode, QueueTold, Told};
use crate::replica::{Counts, LastTransfer, State, ZoneStatus};
use crate::stats::Worker;
use crate::store::Disk;
use crate::wire::Rcode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use std::fmt;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Zones whose numbers are told at the most if a request asks for them; those in trouble go first.
pub(super) const ZONES_MAX: usize = 10_000;

/// Where the ranges end that answer latencies are counted in, nanoseconds: powers of two from a
/// microsecond to a quarter of a second.
const LATENCY_NS: [u64; 13] = [
    1 << 10,
    1 << 11,
    1 << 12,
    1 << 13,
    1 << 14,
    1 << 15,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
];

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
    latencies: Vec<Latency>,
    configured: usize,
    zones: Counts,
    /// Those that are told one by one.
    each: Vec<ZoneStatus>,
    disk: Disk,
    xdp: Vec<Told>,
    process: Process,
}

/// How long one worker's answers took.
#[derive(Debug)]
struct Latency {
    worker: String,
    sum_s: f64,
    /// Where each range ends, in seconds, and how many answers are in it.
    buckets: Vec<(f64, u64)>,
}

impl Latency {
    /// Nothing of those that do not measure it.
    fn of(worker: &Worker) -> Option<Self> {
        let ranges = worker.latency.ranges(&LATENCY_NS);
        let ends = LATENCY_NS.iter().map(|&ns| Duration::from_nanos(ns).as_secs_f64());
        let buckets: Vec<_> = ends.chain([f64::INFINITY]).zip(ranges).collect();
        buckets.iter().any(|&(_, count)| count > 0).then(|| Self {
            worker: worker.name.clone(),
            sum_s: worker.latency.sum_s(),
            buckets,
        })
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
    /// Takes them. Up to `zones_max` zones are told one by one, those in trouble first.
    pub(super) async fn take(parts: &Parts, zones_max: usize) -> Self {
        let zones = parts.replica.count().await;
        let each = if zones_max > 0 { parts.replica.worst(zones_max).await } else { Vec::new() };
        let workers = parts.stats.workers();
        Self {
            ready: parts.ready.load(Ordering::Relaxed),
            served: parts.stats.served(),
            rcodes: parts.stats.rcodes().to_vec(),
            replicated: parts.stats.replicated.each().collect(),
            configured: parts.views.load().len(),
            latencies: workers.iter().filter_map(|worker| Latency::of(worker)).collect(),
            zones,
            each,
            disk: (parts.disk)(),
            xdp: parts.xdp.report(),
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

    /// How long requests over UDP waited in each worker until their answers were written.
    fn latencies(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        const NAME: &str = "backstop_answer_latency_seconds";
        const HELP: &str = "From taking a batch of UDP requests until their answers are written";
        let mut metric = to.encode_descriptor(NAME, HELP, None, MetricType::Histogram)?;
        for latency in &self.latencies {
            let labels = [("worker", &*latency.worker)];
            let count = latency.buckets.iter().map(|&(_, count)| count).sum();
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                latency.sum_s,
                count,
                &latency.buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn zones(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = State::all().map(|state| {
            let count = self.zones.states.get(&state).copied().unwrap_or(0);
            ([("state", state.to_string())], count)
        });
        let counts: Vec<_> = counts.collect();
        let states = counts.iter().map(|(labels, count)| (labels, *count));
        gauges(to, "backstop_zones", "Zones by state", states)?;
        gauge(to, "backstop_zones_configured", "Zones configured", self.configured as u64)?;
        gauge(to, "backstop_zones_served", "Zones answered for", self.zones.served)?;
        if let Some(s) = self.zones.soonest_expiry_s {
            let help = "Seconds until the first of the zones served expires";
            gauge(to, "backstop_soonest_expiry_seconds", help, s)?;
        }
        if let Some(s) = self.zones.oldest_contact_s {
            let help = "Seconds since the good contact with a primary that is longest ago";
            gauge(to, "backstop_oldest_contact_seconds", help, s)?;
        }
        if let Some(s) = self.zones.soonest_signature_end_s {
            let help = "Seconds until a signature of a zone with a trust anchor runs out";
            gauge(to, "backstop_soonest_signature_end_seconds", help, s)?;
        }
        Ok(())
    }

    fn each_zone(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let told = &self.each;
        let labels: Vec<_> = told.iter().map(|zone| [("zone", &*zone.zone)]).collect();
        let numbers = |number: fn(&ZoneStatus) -> Option<u64>| {
            let numbers = labels.iter().zip(told);
            numbers.filter_map(move |(label, zone)| Some((label, number(zone)?)))
        };
        let states: Vec<_> = told
            .iter()
            .map(|zone| [("zone", zone.zone.clone()), ("state", zone.state.to_string())])
            .collect();
        let states = states.iter().map(|labels| (labels, 1_u64));
        gauges(to, "backstop_zone_state", "1 for the state that the zone is in", states)?;
        let serials = numbers(|zone| zone.serial.map(u64::from));
        gauges(to, "backstop_zone_serial", "Serial served", serials)?;
        let contacts = numbers(|zone| zone.last_contact_s);
        let help = "Seconds since the last good contact with a primary";
        gauges(to, "backstop_zone_last_contact_seconds", help, contacts)?;
        let expiries = numbers(|zone| zone.expires_in_s);
        gauges(to, "backstop_zone_expires_in_seconds", "Seconds until it expires", expiries)?;
        let ends = numbers(|zone| Some(zone.signatures.as_ref()?.ends_in_s));
        let help = "Seconds until the first of its signatures runs out";
        gauges(to, "backstop_zone_signature_ends_in_seconds", help, ends)?;
        let refreshes = numbers(|zone| Some(zone.refresh_in_s));
        let help = "Seconds until the primaries are asked next";
        gauges(to, "backstop_zone_refresh_in_seconds", help, refreshes)?;
        let behind = numbers(|zone| Some(zone.behind_s));
        let help = "Seconds since a newer serial than ours is known; 0 if none is";
        gauges(to, "backstop_zone_behind_seconds", help, behind)?;
        let held = numbers(|zone| Some(zone.versions_held as u64));
        gauges(to, "backstop_zone_versions_held", "Older versions held", held)?;
        let failing = numbers(|zone| {
            let failing = zone.primaries.iter().filter(|primary| primary.last_error.is_some());
            Some(failing.count() as u64)
        });
        let help = "Primaries that were of no use when they were asked last";
        gauges(to, "backstop_zone_primaries_failing", help, failing)?;
        self.last_transfers(to)?;
        let left_out = self.zones.zones().saturating_sub(told.len() as u64);
        gauge(to, "backstop_zones_left_out", "Zones whose numbers are not told here", left_out)
    }

    /// How each zone came the last time, if it has since the start.
    fn last_transfers(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Number = fn(&LastTransfer) -> f64;
        const NUMBERS: [(&str, &str, Number); 3] = [
            ("octets", "Octets of the last transfer", |last| last.octets as f64),
            ("records", "Records of the last transfer", |last| last.records as f64),
            ("seconds", "From asking for it until it was served", |last| last.ms as f64 / 1e3),
        ];
        let last = self.each.iter().filter_map(|zone| Some((zone, zone.last_transfer.as_ref()?)));
        let last: Vec<_> = last
            .map(|(zone, last)| ([("zone", &*zone.zone), ("kind", &*last.kind)], last))
            .collect();
        for (name, help, number) in NUMBERS {
            let values = last.iter().map(|(labels, last)| (labels, number(last)));
            gauges(to, &format!("backstop_zone_last_transfer_{name}"), help, values)?;
        }
        Ok(())
    }

    /// Interfaces that are served past the network stack, and their queues; nothing without any.
    fn xdp(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Number = fn(&QueueTold) -> u64;
        const COUNTERS: [(&str, &str, Number); 4] = [
            ("received", "Requests that came by AF_XDP", |queue| queue.received),
            ("sent", "Replies that left by AF_XDP", |queue| queue.sent),
            ("dropped", "Packets to and from AF_XDP that were dropped", |queue| queue.dropped),
            ("overrun", "Packets that found no room in AF_XDP's rings", |queue| queue.overrun),
        ];
        if self.xdp.is_empty() {
            return Ok(());
        }
        let modes: Vec<_> = self.xdp.iter().map(|told| mode(told)).collect();
        let serving = modes.iter().zip(&self.xdp);
        let serving = serving.map(|(labels, told)| (labels, u64::from(told.mode.is_some())));
        gauges(to, "backstop_xdp", "Whether AF_XDP serves an interface, and how", serving)?;
        for (name, help, number) in COUNTERS {
            let name = format!("backstop_xdp_{name}");
            let mut metric = to.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for told in &self.xdp {
                for (at, queue) in told.queues.iter().enumerate() {
                    let labels = [("interface", told.interface.clone()), ("queue", at.to_string())];
                    let count = ConstCounter::new(number(queue));
                    count.encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
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
        self.latencies(&mut to)?;
        self.zones(&mut to)?;
        self.xdp(&mut to)?;
        if !self.each.is_empty() {
            self.each_zone(&mut to)?;
        }
        self.machine(&mut to)
    }
}

fn mode(told: &Told) -> [(&'static str, String); 3] {
    let mode = match told.mode {
        Some(Mode::Native) => "native",
        Some(Mode::Generic) => "generic",
        None => "none",
    };
    let zero_copy = told.zero_copy.to_string();
    [("interface", told.interface.clone()), ("mode", mode.into()), ("zero_copy", zero_copy)]
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
    use std::collections::BTreeMap;

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
            serve_stale: false,
            behind_serials: 0,
            behind_s: 0,
            lower_serial: None,
            same_serial_difference: false,
            versions_held: 0,
            nsec3_iterations: 0,
            held: None,
            signatures: None,
            error: None,
            transfer: None,
            last_transfer: None,
            primaries: Vec::new(),
        }
    }

    fn snapshot(each: Vec<ZoneStatus>) -> Snapshot {
        let worker = Worker::new("3");
        worker.latency.record(Duration::from_nanos(900), 5);
        worker.latency.record(Duration::from_micros(3), 2);
        worker.latency.record(Duration::from_secs(2), 1);
        let mut states: BTreeMap<State, u64> = BTreeMap::new();
        for zone in &each {
            *states.entry(zone.state).or_default() += 1;
        }
        let latencies = [worker, Worker::default()];
        Snapshot {
            ready: true,
            served: vec![("requests", " Requests received.", 12)],
            rcodes: vec![9, 0, 0, 2, 1],
            replicated: vec![("axfrs", " Whole zones received.", 3)],
            latencies: latencies.iter().filter_map(Latency::of).collect(),
            configured: each.len(),
            zones: Counts {
                states,
                served: 9,
                soonest_expiry_s: Some(40),
                oldest_contact_s: None,
                soonest_signature_end_s: Some(50),
            },
            each,
            disk: Disk { file_len: 4096, queued: 2, error: Some("no".into()), full: false },
            xdp: vec![Told {
                interface: "eth0".into(),
                mode: Some(Mode::Native),
                zero_copy: false,
                queues: vec![QueueTold { worker: 0, received: 7, sent: 6, dropped: 1, overrun: 2 }],
                trouble: None,
            }],
            process: Process { resident_octets: Some(8192), cpu_s: Some(1.25) },
        }
    }

    #[test]
    fn every_state_is_told_also_those_that_no_zone_is_in() {
        let page = snapshot(vec![status("a.", State::Stale, 9)]).text();
        for state in State::all() {
            let line = format!(
                "backstop_zones{{state=\"{state}\"}} {}\n",
                u64::from(state == State::Stale)
            );
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        assert!(State::all().is_sorted(), "they come in their order");
    }

    #[test]
    fn the_page_has_each_number_with_its_meaning() {
        let page = snapshot(Vec::new()).text();
        for line in [
            "# HELP backstop_requests Requests received.",
            "# TYPE backstop_requests counter",
            "backstop_requests_total 12",
            "backstop_axfrs_total 3",
            "backstop_rcodes_total{rcode=\"NOERROR\"} 9",
            "backstop_rcodes_total{rcode=\"NXDOMAIN\"} 2",
            "backstop_rcodes_total{rcode=\"other\"} 1",
            "backstop_zones{state=\"never-loaded\"} 0",
            "backstop_zones_served 9",
            "backstop_soonest_expiry_seconds 40",
            "backstop_soonest_signature_end_seconds 50",
            "backstop_answer_latency_seconds_bucket{le=\"0.000001024\",worker=\"3\"} 5",
            "backstop_answer_latency_seconds_bucket{le=\"0.000004096\",worker=\"3\"} 7",
            "backstop_answer_latency_seconds_bucket{le=\"0.268435456\",worker=\"3\"} 7",
            "backstop_answer_latency_seconds_bucket{le=\"+Inf\",worker=\"3\"} 8",
            "backstop_answer_latency_seconds_count{worker=\"3\"} 8",
            "backstop_ready 1",
            "backstop_xdp{interface=\"eth0\",mode=\"native\",zero_copy=\"false\"} 1",
            "backstop_xdp_received_total{interface=\"eth0\",queue=\"0\"} 7",
            "backstop_xdp_overrun_total{interface=\"eth0\",queue=\"0\"} 2",
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
        let mut many =
            snapshot(vec![status("z0.\\\"", State::Ok, 9), status("z1.", State::NeverLoaded, 9)]);
        many.zones.states = BTreeMap::from([(State::Ok, 2), (State::NeverLoaded, 1)]);
        let page = many.text();
        let serials = page.lines().filter(|line| line.starts_with("backstop_zone_serial{"));
        assert_eq!(serials.count(), 1);
        assert!(page.contains("backstop_zone_state{zone=\"z1.\",state=\"never-loaded\"} 1\n"));
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
