use super::*;
use crate::config::Config;
use crate::store::{self, History, Options, Ticket};
use crate::view::View;
use crate::zone::file;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// The scheduler over the zones that a configuration names, and the configuration itself.
fn begin(
    dir: &Path,
    store_dir: &Path,
    source: &str,
) -> (Handle, JoinHandle<()>, Vec<ZoneConfig>, Arc<Views>) {
    let path = dir.join("backstop.toml");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[[zone]]\nname = \"example.org\"\n{source}\n"
    );
    fs::write(&path, text).unwrap();
    let (config, _) = Config::load(&path).unwrap();
    let (clock, _) = Clock::start(None);
    let opened = Store::open(store_dir, Options::default()).unwrap();
    let (store, loaded) =
        load(opened, Vec::new(), Arc::default(), clock, &AtomicUsize::new(0)).unwrap();
    let (views, _retired) = Views::new(View::default().with(loaded.served()));
    let limits = Limits {
        concurrent: 1,
        per_primary: 1,
        probes_a_second: 1000,
        connect_timeout: Duration::from_millis(100),
        stall_timeout: Duration::from_millis(100),
        min_rate: 0,
    };
    let parts = Parts {
        views: Arc::clone(&views),
        store: Arc::new(store),
        clock,
        stats: Arc::default(),
        limits,
        builders: 1,
        scratch: dir.join("check"),
    };
    let (handle, thread) = start(parts, loaded).unwrap();
    (handle, thread, config.zones, views)
}

/// A zone whose data were kept while it was not configured is configured again with this source,
/// which gives nothing: what becomes of it.
fn configured_again(source: &str) -> ZoneStatus {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("state");
    let apex: NameBuf = "example.org.".parse().unwrap();
    let text = "@ 300 SOA ns hostmaster 7 3600 600 864000 300\n@ 300 NS ns\nns 300 A 192.0.2.1\n";
    let path = dir.path().join("zone");
    fs::write(&path, text).unwrap();
    let limits = file::Limits { octets: 1000 };
    let zone = file::read(&path, apex.as_name(), limits).unwrap().build().unwrap();
    let opened = Store::open(&store_dir, Options::default()).unwrap();
    let store = opened.load(|_| (), |_| ()).unwrap();
    let state = store::State { serial: 7, expires_at_ms: u64::MAX / 2, ..store::State::default() };
    let keep: Ticket = store.replace(apex.as_name(), state, History::Drop, Kept(Arc::new(zone)));
    keep.wait().unwrap();
    let (clock, _) = Clock::start(None);
    store.retire(apex.as_name(), clock.now_ms()).wait().unwrap();
    drop(store);
    fs::write(&path, "this is no zone file\n").unwrap();

    let (handle, thread, zones, _views) = begin(dir.path(), &store_dir, source);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = || runtime.block_on(handle.status(apex.clone()));
    assert!(status().is_none());
    let identity = Arc::default();
    handle.configure(Settings { zones, keys: Arc::default(), identity });
    let end = Instant::now() + Duration::from_secs(20);
    while status().and_then(|zone| zone.serial) != Some(7) {
        assert!(Instant::now() < end, "{:?}", status());
        thread::sleep(Duration::from_millis(5));
    }
    let became = status().unwrap();
    handle.stop();
    thread.join().unwrap();
    let opened = Store::open(&store_dir, Options::default()).unwrap();
    let mut retired = Vec::new();
    let read = |stored: store::Stored<'_>| stored.state.retired_at_ms;
    drop(opened.load(read, |at_ms| retired.push(at_ms.unwrap())).unwrap());
    assert_eq!(retired, [None]);
    became
}

#[test]
fn a_zone_that_is_configured_again_is_served_as_it_was_kept() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    configured_again(&format!("primaries = [{{ address = \"{closed}\" }}]"));
}

#[test]
fn a_zone_that_is_configured_again_with_a_file_that_cannot_be_read_is_served_as_it_was_kept() {
    let became = configured_again("file = \"zone\"");
    assert_eq!((became.state, became.expires_in_s), (State::Stale, None));
    assert!(became.error.unwrap().contains("zone:1"), "what is wrong with the file is told");
}
