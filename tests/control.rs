//! The control socket, the commands and the metrics, with a real replica behind them.
#![allow(clippy::unwrap_used, reason = "tests")]

use backstop::clock::Clock;
use backstop::config::Config;
use backstop::replica::{self, Limits};
use backstop::stats::Stats;
use backstop::store::{self, Disk, Store};
use backstop::view::{View, Views};
use backstop::{control, web};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Records of the zone that is large enough to fill all buffers on the way to a client.
const MANY: usize = 8_000;

/// How long anything may take that should be there soon.
const SOON: Duration = Duration::from_secs(30);

/// All of a server but what answers queries.
struct Server {
    folder: TempDir,
    control: PathBuf,
    metrics: SocketAddr,
    ready: Arc<AtomicBool>,
    disk: Arc<Mutex<Disk>>,
    handle: replica::Handle,
    scheduler: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Two zones from files, one of them large, and one whose primary is not there.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("state/control.sock");
        let config = write_configuration(folder.path());
        let (config, _) = Config::load(&config).unwrap();
        let (clock, _) = Clock::start(None);
        let opened = Store::open(&config.server.state_dir, store::Options::default()).unwrap();
        let read = AtomicUsize::new(0);
        let loaded = replica::load(opened, config.zones, Arc::default(), clock, &read);
        let (store, loaded) = loaded.unwrap();
        let (views, _retired) = Views::new(View::default().with(loaded.served()));
        let stats = Arc::new(Stats::default());
        let parts = replica::Parts {
            views: Arc::clone(&views),
            store: Arc::new(store),
            clock,
            stats: Arc::clone(&stats),
            limits: limits(),
            builders: 1,
            scratch: folder.path().join("check"),
        };
        let (handle, scheduler) = replica::start(parts, loaded).unwrap();
        let disk = Arc::new(Mutex::new(Disk::default()));
        let ready = Arc::new(AtomicBool::new(false));
        let disk_now = || {
            let disk = Arc::clone(&disk);
            Box::new(move || disk.lock().unwrap().clone())
        };
        let listener = control::Listener::bind(&control).unwrap();
        let control_parts = control::Parts {
            replica: handle.clone(),
            views: Arc::clone(&views),
            clock,
            disk: disk_now(),
            stats: Arc::clone(&stats),
            xdp: Default::default(),
            reload: reload_once(),
        };
        let web_listener = web::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let metrics = web_listener.local_addr().unwrap();
        let web_parts = web::Parts {
            stats,
            views,
            replica: handle.clone(),
            disk: disk_now(),
            zones_max: 1,
            xdp: Default::default(),
            ready: Arc::clone(&ready),
        };
        let runtime = Runtime::new().unwrap();
        runtime.spawn(control::serve(listener, control_parts));
        runtime.spawn(web::serve(web_listener, web_parts));
        let (scheduler, runtime) = (Some(scheduler), Some(runtime));
        let server = Self { folder, control, metrics, ready, disk, handle, scheduler, runtime };
        server.wait_until_loaded();
        server
    }

    fn wait_until_loaded(&self) {
        let end = Instant::now() + SOON;
        loop {
            let status = control::Client::new(&self.control).status(None).unwrap();
            let loaded = status.zones.iter().filter(|zone| zone.serial.is_some()).count();
            let tried = |zone: &replica::ZoneStatus| {
                zone.primaries.iter().all(|primary| primary.last_error.is_some())
            };
            if loaded == 2 && status.zones.iter().all(tried) {
                return;
            }
            assert!(Instant::now() < end, "{status:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs `backstop` with these arguments and the path of the control socket.
    fn backstop(&self, arguments: &[&str]) -> Output {
        let control = self.control.to_str().unwrap();
        backstop(&[arguments, &["--control", control]].concat())
    }

    /// One line to the socket as it is, one line back.
    fn line(&self, request: &[u8]) -> serde_json::Value {
        let mut stream = UnixStream::connect(&self.control).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // A request that is too long may be refused before all of it has been taken.
        let _ = stream.write_all(request);
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.stop();
        self.scheduler.take().unwrap().join().unwrap();
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn limits() -> Limits {
    Limits {
        concurrent: 4,
        per_primary: 2,
        probes_a_second: 1000,
        connect_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(300),
        min_rate: 1,
    }
}

/// The first reload succeeds, later ones do not.
fn reload_once() -> Box<dyn Fn() -> Result<String, String> + Send + Sync> {
    let first = AtomicBool::new(true);
    Box::new(move || match first.swap(false, Ordering::Relaxed) {
        true => Ok("the configuration was read anew\n".into()),
        false => Err("backstop.toml:1:1: unknown key \"x\": write one of ...".into()),
    })
}

fn write_configuration(folder: &Path) -> PathBuf {
    // Bound and let go: nobody answers there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let soa = "@ 3600 SOA ns hostmaster 7 3600 600 86400 300\n@ 3600 NS ns.example.\n";
    let text = "ns 60 A 192.0.2.1\nt 60 TXT \"two\\010lines; and \\\"more\\\"\" \"b\"\n";
    fs::write(folder.join("small.zone"), format!("{soa}{text}")).unwrap();
    let mut many = soa.to_owned();
    for i in 0..MANY {
        writeln!(many, "h{i} 60 TXT {:0240}", i).unwrap();
    }
    fs::write(folder.join("many.zone"), many).unwrap();
    let path = folder.join("backstop.toml");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstate-dir = \"state\"\n\
         [[zone]]\nname = \"example.\"\nfile = \"small.zone\"\n\
         [[zone]]\nname = \"many.example\"\nfile = \"many.zone\"\n\
         [[zone]]\nname = \"away.example\"\nprimaries = [{{ address = \"{gone}\" }}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn backstop(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backstop")).args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, words: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(words), "{words} is not in\n{error}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
}

#[track_caller]
fn assert_prints<'o>(output: &'o Output, words: &str) -> &'o str {
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(printed.contains(words), "{words} is not in\n{printed}");
    printed
}

#[test]
fn status_tells_how_the_zones_are() {
    let server = Server::start();
    let output = server.backstop(&["status"]);
    let table = assert_prints(&output, "3 zones: 1 never-loaded, 2 ok\n");
    let names: Vec<_> = table.lines().filter_map(|line| line.split("  ").next()).collect();
    assert_eq!(names[..2], ["ZONE", "away.example."], "{table}");
    assert!(table.contains("\n    127.0.0.1:"), "{table}");
    assert_prints(&server.backstop(&["status", "EXAMPLE"]), "example.\n  state          ok:");
    assert_prints(&server.backstop(&["status", "away.example."]), "never-loaded: no primary has");
    // The path as the configuration says it, whatever else is wrong with that by now.
    let config = server.folder.path().join("backstop.toml");
    fs::write(&config, "[server]\nstate-dir = \"state\"\nwrong = 1\n[[zone]]\n").unwrap();
    let config = config.to_str().unwrap();
    assert_prints(&backstop(&["status", "--config", config]), "3 zones");
}

#[test]
fn status_as_json_is_an_array_with_each_zone() {
    let server = Server::start();
    let output = server.backstop(&["status", "--json"]);
    let zones: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(zones.as_array().unwrap().len(), 3);
    let named = |name| zones.as_array().unwrap().iter().find(|zone| zone["zone"] == name).unwrap();
    let small = named("example.");
    assert_eq!((&small["state"], &small["serial"]), (&"ok".into(), &7.into()));
    assert!(small["expires-in-s"].is_null() && small["last-contact-s"].is_null());
    assert_eq!(small["last-transfer"]["kind"], "file");
    let away = named("away.example.");
    assert!(away["refresh-in-s"].is_u64() && away["serial"].is_null());
    assert!(away["primaries"][0]["last-error"].is_string(), "{away}");
    assert!(away["primaries"][0]["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    let one = server.backstop(&["status", "--json", "example."]);
    let one: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(one.as_array().unwrap().len(), 1);
}

#[test]
fn status_of_the_server_tells_totals_and_how_long_answers_took() {
    let server = Server::start();
    let words = server.backstop(&["status", "--server"]);
    assert_prints(&words, "\n3 zones: 1 never-loaded, 2 ok\n\n");
    let json = server.backstop(&["status", "--server", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["zones"]["states"]["ok"], 2, "{json}");
    assert_eq!((&json["zones"]["served"], &json["counted"]["published"]), (&2.into(), &2.into()));
    assert_eq!(json["answers"][0]["worker"], "all");
    let output = server.backstop(&["status", "example.", "--server"]);
    assert_fails(&output, 2, "cannot be used with");
}

#[test]
fn a_failing_disk_is_warned_of_beside_the_zones() {
    let server = Server::start();
    let error = Some("No space left on device".to_owned());
    *server.disk.lock().unwrap() = Disk { error, full: true, ..Disk::default() };
    let output = server.backstop(&["status", "--json"]);
    let warning = text(&output.stderr);
    assert!(warning.starts_with("warning: zones are not being kept"), "{warning}");
    assert!(warning.contains("No space left on device; make room on the disk"), "{warning}");
    let zones: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(zones.as_array().unwrap().len(), 3);
}

#[test]
fn refresh_reads_the_file_again_and_retransfer_does_as_well() {
    let server = Server::start();
    let path = server.folder.path().join("small.zone");
    for (command, serial) in [("refresh", 8), ("retransfer", 9)] {
        let file = fs::read_to_string(&path).unwrap();
        let old = format!("hostmaster {} ", serial - 1);
        fs::write(&path, file.replace(&old, &format!("hostmaster {serial} "))).unwrap();
        let output = server.backstop(&[command, "example"]);
        assert_prints(&output, "example.: its file is being read");
        let client = control::Client::new(&server.control);
        let end = Instant::now() + SOON;
        while client.status(Some("example.")).unwrap().zones[0].serial != Some(serial) {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn notify_says_when_there_is_nobody_to_tell_or_nothing_to_tell_of() {
    let server = Server::start();
    let output = server.backstop(&["notify", "example"]);
    assert_fails(&output, 1, "backstop: example.: its `notify` lists no server\n");
    let output = server.backstop(&["notify", "away.example"]);
    assert_fails(&output, 1, "backstop: away.example.: there is no version of it yet\n");
}

#[test]
fn export_writes_a_zone_file_that_loads_again() {
    let server = Server::start();
    let output = server.backstop(&["export", "example."]);
    let file = assert_prints(&output, "example.");
    assert_eq!(file.lines().count(), 4, "a record a line:\n{file}");
    let path = server.folder.path().join("out.zone");
    fs::write(&path, "what was there before").unwrap();
    let to = path.to_str().unwrap();
    let output = server.backstop(&["export", "many.example", "--output", to]);
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), MANY + 2);
    let apex: backstop::name::NameBuf = "many.example".parse().unwrap();
    let limits = backstop::zone::file::Limits::default();
    let read = backstop::zone::file::read(&path, apex.as_name(), limits).unwrap();
    assert_eq!(read.build().unwrap().records(), MANY as u64 + 2);
}

#[test]
fn an_export_that_fails_leaves_the_file_as_it_was() {
    let server = Server::start();
    let path = server.folder.path().join("out.zone");
    fs::write(&path, "before").unwrap();
    let to = path.to_str().unwrap();
    let output = server.backstop(&["export", "away.example", "--output", to]);
    assert_fails(&output, 1, "away.example.: there is no version yet");
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    let left = fs::read_dir(server.folder.path()).unwrap();
    let parts =
        left.filter(|file| file.as_ref().unwrap().path().extension() == Some("part".as_ref()));
    assert_eq!(parts.count(), 0);
    let output = server.backstop(&["export", "example", "--output", "/nowhere/at.all"]);
    assert_fails(&output, 1, "/nowhere/at.all: cannot be written");
}

#[test]
fn reload_tells_what_it_found() {
    let server = Server::start();
    assert_prints(&server.backstop(&["reload"]), "the configuration was read anew\n");
    assert_fails(&server.backstop(&["reload"]), 1, "unknown key \"x\"");
}

#[test]
fn an_unknown_zone_is_an_error_of_each_command() {
    let server = Server::start();
    for command in ["status", "refresh", "retransfer", "notify", "export"] {
        let output = server.backstop(&[command, "unknown.example"]);
        assert_fails(&output, 1, "backstop: unknown.example.: no such zone is configured\n");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let path = path.to_str().unwrap();
    for command in [&["status"][..], &["refresh", "a"], &["export", "a"], &["reload"]] {
        let output = backstop(&[command, &["--control", path]].concat());
        assert_fails(&output, 1, &format!("backstop: no server answers at {path} ("));
        assert_fails(&output, 1, "is it running? give --config or --control");
    }
    let output = backstop(&["status", "--config", path]);
    assert_fails(&output, 1, "cannot be read");
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    for (arguments, words) in [
        (&["sttus"][..], "unrecognized subcommand"),
        (&["refresh"], "required arguments were not provided"),
        (&["refresh", "a..b"], "invalid value 'a..b'"),
        (&["status", "--config", "a", "--control", "b"], "cannot be used with"),
        (&["check"], "--config <FILE>"),
        (&["status", "--jsn"], "unexpected argument"),
    ] {
        assert_fails(&backstop(arguments), 2, words);
    }
    assert_eq!(backstop(&[]).status.code(), Some(2));
    assert_prints(&backstop(&["--version"]), concat!("backstop ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn check_tells_the_mistakes_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_configuration(folder.path());
    let path = config.to_str().unwrap();
    assert_prints(&backstop(&["check", "--config", path]), "ok: 3 zones");
    fs::write(&config, "[server]\nlisten = [\"127.0.0.1:0\"]\nworkrs = 1\n").unwrap();
    let output = backstop(&["check", "--config", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("backstop.toml:3:1: unknown key \"workrs\""));
    assert!(text(&output.stderr).contains("the configuration cannot be used"));
}

#[test]
fn what_is_no_request_gets_an_error() {
    let server = Server::start();
    let long = [&[b' '; 10_000][..], b"\n"].concat();
    for (request, words) in [
        (&b"status\n"[..], "the request is not understood"),
        (b"\n", "the request is not understood"),
        (b"{\"command\":\"halt\"}\n", "unknown variant `halt`"),
        (b"{\"command\":\"refresh\"}\n", "missing field `zone`"),
        (b"{\"command\":\"reload\",\"x\":1}\n", "unknown field `x`"),
        (b"{\"command\":\"export\",\"zone\":\"a..b\"}\n", "\"a..b\" is no domain name"),
        (b"\xff\xfe\n", "the request is not understood"),
        (&long, "no line of 4096 octets"),
    ] {
        let reply = server.line(request);
        let error = reply["error"].as_str().unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn clients_that_are_silent_or_do_not_read_keep_no_one_waiting() {
    let server = Server::start();
    let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&server.control).unwrap()).collect();
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(&server.control).unwrap();
            stream.write_all(b"{\"command\":\"export\",\"zone\":\"many.example.\"}\n").unwrap();
            stream
        })
        .collect();
    let before = Instant::now();
    let client = control::Client::new(&server.control);
    assert_eq!(client.status(None).unwrap().zones.len(), 3);
    assert!(before.elapsed() < Duration::from_secs(8), "it waited for a time-out of others");
    drop((silent, slow));
}

#[test]
fn too_many_clients_are_told_so_rather_than_left_waiting() {
    let server = Server::start();
    let _silent: Vec<_> = (0..64).map(|_| UnixStream::connect(&server.control).unwrap()).collect();
    let error = control::Client::new(&server.control).status(None).unwrap_err().to_string();
    assert_eq!(error, "too many control clients at once; try again");
}

#[test]
fn metrics_and_health_are_told_over_http() {
    let server = Server::start();
    assert!(server.get("/healthz").starts_with("HTTP/1.1 503 "));
    server.ready.store(true, Ordering::Relaxed);
    let health = server.get("/healthz");
    assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with("ready\n"), "{health}");
    let page = server.get("/metrics");
    assert!(page.contains("content-type: application/openmetrics-text"), "{page}");
    for line in [
        "backstop_zones{state=\"never-loaded\"} 1",
        "backstop_zones{state=\"ok\"} 2",
        "backstop_zones_served 2",
        "backstop_zones_configured 3",
        "backstop_published_total 2",
        "backstop_ready 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    // As many as were chosen, the one in trouble first.
    let line = "backstop_zone_state{zone=\"away.example.\",state=\"never-loaded\"} 1\n";
    assert!(page.contains(line) && page.contains("backstop_zones_left_out 2\n"), "{page}");
    assert!(!page.contains("backstop_zone_serial{"));
    let page = server.get("/metrics?zones=1");
    assert!(page.contains("backstop_zone_primaries_failing{zone=\"away.example.\"} 1\n"), "{page}");
    assert!(page.contains("backstop_zone_serial{zone=\"many.example.\"} 7\n"), "{page}");
    assert!(server.get("/other").starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_metrics_address_in_use_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = web::bind(address).unwrap_err().to_string();
    assert!(error.contains(&format!("metrics cannot be served at {address}")), "{error}");
    assert!(error.contains("set another address as `metrics`"), "{error}");
}
