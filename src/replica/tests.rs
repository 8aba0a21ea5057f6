use super::*;
use crate::config::Config;
use crate::store::{self, History, Options, Ticket};
use crate::view::View;
use crate::zone::file;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    configured_again(&format!("primaries = [{{ address = \"{closed}\" }}]"));
}

#[test]
fn a_zone_that_is_configured_again_with_a_file_that_cannot_be_read_is_served_as_it_was_kept() {
    let became = configured_again("file = \"zone\"");
    assert_eq!((became.state, became.expires_in_s), (State::Stale, None));
    assert!(became.error.unwrap().contains("zone:1"), "what is wrong with the file is told");
}

/// Takes UPDATEs in and says nothing, until `held` of them are there and it is told to let go.
fn mute_primary(listener: TcpListener, held: Arc<AtomicUsize>, let_go: Arc<AtomicBool>) {
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let mut streams = Vec::new();
        while !let_go.load(Ordering::Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            let mut head = [0; 5];
            // Of what else it may be asked, nothing is kept.
            if stream.read_exact(&mut head).is_ok() && head[4] == 5 << 3 {
                streams.push(stream);
                held.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

#[test]
fn so_many_updates_are_forwarded_at_once_and_what_is_more_ends_at_once() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&anywhere.into()).unwrap();
    socket.listen(1024).unwrap();
    let listener = TcpListener::from(socket);
    let source = format!("primaries = [{{ address = \"{}\" }}]", listener.local_addr().unwrap());
    let (held, let_go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    mute_primary(listener, Arc::clone(&held), Arc::clone(&let_go));
    let dir = tempfile::tempdir().unwrap();
    let (handle, thread, zones, _views) = begin(dir.path(), &dir.path().join("state"), &source);
    handle.configure(Settings { zones, keys: Arc::default(), identity: Arc::default() });
    let apex: NameBuf = "example.org.".parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(handle.status(apex.clone())).is_some(), "it is configured");
    let pass = |_| {
        let (reply, waiting) = oneshot::channel();
        let message = b"\x12\x34\x28\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x06\0\x01".to_vec();
        handle.pass(Passed::Update(Update { apex: apex.clone(), peer: anywhere, message, reply }));
        waiting
    };
    let mut waiting: Vec<_> = (0..forward::CONCURRENT + 44).map(pass).collect();
    let end = Instant::now() + Duration::from_secs(20);
    while waiting.len() > forward::CONCURRENT || held.load(Ordering::Relaxed) < waiting.len() {
        assert!(Instant::now() < end, "{} wait, {held:?} came", waiting.len());
        let is_over = |one: &mut oneshot::Receiver<_>| {
            one.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        if waiting.len() > forward::CONCURRENT {
            waiting.retain_mut(|one| !is_over(one));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let_go.store(true, Ordering::Relaxed);
    for one in waiting {
        assert!(one.blocking_recv().is_err(), "the primary has said nothing");
    }
    assert_eq!(held.load(Ordering::Relaxed), forward::CONCURRENT, "the others never came there");
    handle.stop();
    thread.join().unwrap();
}
