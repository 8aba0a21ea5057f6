//! `tuning/host.sh` on a made-up host: a folder with files as under /proc and /sys, and an
//! `ethtool` that keeps its settings in files. Nothing of the real host is touched.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// Answers as ethtool 6 does for a card with 8 queues and rings of 2048, and takes -L, -G, -N, -C.
const ETHTOOL: &str = r#"#!/usr/bin/env bash
cd "$(dirname "$0")/card"
case $1 in
    -l) printf 'Channel parameters for %s:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t8\n' "$2"
        printf 'Current hardware settings:\nRX:\t\tn/a\nCombined:\t%s\n' "$(cat combined)" ;;
    -g) printf 'Pre-set maximums:\nRX:\t\t2048\nRX Mini:\tn/a\nTX:\t\t2048\n'
        printf 'Current hardware settings:\nRX:\t\t%s\nRX Mini:\tn/a\nTX:\t\t%s\n' \
            "$(cat rx)" "$(cat tx)" ;;
    -n) echo "UDP flows use these fields for computing Hash flow key:"
        case $(cat "$4") in *s*) echo "IP SA" ;; esac
        case $(cat "$4") in *d*) echo "IP DA" ;; esac
        case $(cat "$4") in *f*) echo "L4 bytes 0 & 1 [TCP/UDP src port]" ;; esac
        case $(cat "$4") in *n*) echo "L4 bytes 2 & 3 [TCP/UDP dst port]" ;; esac ;;
    -c) printf 'Adaptive RX: %s  TX: n/a\nrx-usecs:\t%s\n' "$(cat adaptive-rx)" "$(cat rx-usecs)" ;;
    -k) printf 'Features for %s:\nrx-checksumming: on\nlarge-receive-offload: off [fixed]\n' "$2"
        printf 'rx-vlan-offload: %s\ntx-vlan-offload: %s\n' "$(cat rxvlan)" "$(cat txvlan)" ;;
    -N) echo "$5" > "$4" ;;
    -L | -G | -C | -K) [ -e "$3" ] && echo "$4" > "$3" ;;
esac
"#;

struct Host {
    root: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { root: tempfile::tempdir().expect("a folder") };
        for (file, value) in [
            ("proc/sys/net/core/rmem_max", "212992"),
            ("proc/sys/net/core/wmem_max", "99999999"),
            ("proc/sys/net/core/somaxconn", "128"),
            ("proc/sys/net/ipv4/udp_early_demux", "1"),
            ("proc/sys/kernel/numa_balancing", "0"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
            ("sys/class/net/eth7/device/msi_irqs/40", "msix"),
            ("sys/class/net/eth7/device/msi_irqs/41", "msix"),
            ("proc/interrupts", " 40:  1  PCI-MSIX  eth7-link\n 41:  9  PCI-MSIX  eth7-rx-0"),
            ("proc/irq/40/smp_affinity_list", "0-3"),
            ("proc/irq/41/smp_affinity_list", "0-3"),
            ("bin/card/combined", "1"),
            ("bin/card/rx", "256"),
            ("bin/card/tx", "2048"),
            ("bin/card/udp4", "sd"),
            ("bin/card/udp6", "sdfn"),
            ("bin/card/adaptive-rx", "on"),
            ("bin/card/rx-usecs", "8"),
            ("bin/card/rxvlan", "on"),
            ("bin/card/txvlan", "off"),
            ("sys/class/net/eth7/napi_defer_hard_irqs", "0"),
            ("sys/class/net/eth7/gro_flush_timeout", "0"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always"),
        ] {
            host.write(file, value);
        }
        fs::write(host.path("bin/ethtool"), ETHTOOL).expect("a program");
        let runnable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(host.path("bin/ethtool"), runnable).expect("our own file");
        host
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    fn write(&self, file: &str, value: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("not the root")).expect("a folder");
        fs::write(path, format!("{value}\n")).expect("a file");
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a file").trim_end().to_owned()
    }

    fn state(&self) -> PathBuf {
        self.path("state/tuning.saved")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.script(Command::new("bash"), arguments)
    }

    /// Without the capabilities of root, if we have them: file modes count.
    fn run_without_rights(&self, arguments: &[&str]) -> Output {
        if fs::metadata("/proc/self").expect("/proc").uid() != 0 {
            return self.run(arguments);
        }
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set=-all", "--inh-caps=-all", "bash"]);
        self.script(setpriv, arguments)
    }

    fn script(&self, mut command: Command, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/host.sh");
        let path = env::var("PATH").expect("a PATH");
        command
            .arg(script)
            .args(arguments)
            .arg("--state")
            .arg(self.state())
            .env("BACKSTOP_TUNING_ROOT", self.root.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .output()
            .expect("bash")
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// Every file of the made-up host.
    fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.clone(), fs::read(path).expect("a file"));
                }
            }
        }
        found
    }
}

const CARD: [&str; 2] = ["--interface", "eth7"];

#[test]
fn apply_then_revert_restores_every_file_exactly() {
    let host = Host::new();
    let before = host.everything();
    host.succeeds(&["apply", CARD[0], CARD[1]]);
    assert_eq!(host.read("proc/sys/net/core/rmem_max"), "16777216");
    assert_eq!(host.read("proc/sys/net/ipv4/udp_early_demux"), "0");
    assert_eq!(host.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "performance");
    assert_eq!(host.read("bin/card/rx"), "2048", "no more than the card has");
    assert_eq!(host.read("bin/card/udp4"), "sdfn");
    assert_eq!(host.read("bin/card/adaptive-rx"), "off");
    assert_eq!(host.read("proc/irq/41/smp_affinity_list"), "0");
    host.succeeds(&["revert"]);
    assert_eq!(host.everything(), before);
}

#[test]
fn what_af_xdp_wants_is_set_when_asked_for_and_put_back() {
    let host = Host::new();
    let before = host.everything();
    host.succeeds(&["apply", CARD[0], CARD[1]]);
    assert_eq!(host.read("bin/card/rxvlan"), "on", "not asked for");
    let all = ["apply", CARD[0], CARD[1], "--xdp", "--busy-poll"];
    let said = host.succeeds(&all);
    assert!(said.contains("absent  feature:eth7:lro"), "what is fixed is left alone: {said}");
    assert_eq!((host.read("bin/card/rxvlan"), host.read("bin/card/txvlan")), two("off", "off"));
    assert_eq!(host.read("sys/class/net/eth7/gro_flush_timeout"), "200000");
    assert_eq!(host.read("sys/kernel/mm/transparent_hugepage/enabled"), "madvise");
    host.succeeds(&["check", CARD[0], CARD[1], "--xdp", "--busy-poll"]);
    host.succeeds(&["revert"]);
    assert_eq!(host.everything(), before);
}

fn two(first: &str, second: &str) -> (String, String) {
    (first.into(), second.into())
}

#[test]
fn what_is_better_already_or_not_a_queue_stays_as_it_is() {
    let host = Host::new();
    host.succeeds(&["apply", CARD[0], CARD[1]]);
    assert_eq!(host.read("proc/sys/net/core/wmem_max"), "99999999", "at least, not exactly");
    assert_eq!(host.read("proc/irq/40/smp_affinity_list"), "0-3", "the link's interrupt");
    assert!(!host.path("proc/sys/net/core/netdev_budget").exists(), "absent stays absent");
}

#[test]
fn applying_twice_still_restores_the_values_before_the_first() {
    let host = Host::new();
    let before = host.everything();
    host.succeeds(&["apply"]);
    // Someone changes a value in between: the second apply must not take it for the original.
    host.write("proc/sys/net/core/rmem_max", "400000");
    host.succeeds(&["apply"]);
    let said = host.succeeds(&["apply"]);
    assert!(!said.contains(" set "), "{said}");
    host.succeeds(&["revert"]);
    assert_eq!(host.everything(), before);
}

#[test]
fn check_changes_nothing_and_says_by_its_exit_whether_something_should() {
    let host = Host::new();
    let before = host.everything();
    let output = host.run(&["check", CARD[0], CARD[1]]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("CHANGE  net.core.rmem_max = 212992"), "{said}");
    assert!(said.contains("absent  net.core.netdev_budget"), "{said}");
    assert_eq!(host.everything(), before);
    host.succeeds(&["apply", CARD[0], CARD[1]]);
    host.succeeds(&["check", CARD[0], CARD[1]]);
}

#[test]
fn revert_without_an_apply_changes_nothing() {
    let host = Host::new();
    let before = host.everything();
    host.succeeds(&["revert"]);
    assert_eq!(host.everything(), before);
}

#[test]
fn without_rights_nothing_is_changed_and_it_says_so() {
    let host = Host::new();
    // As all of /proc/sys is in a container.
    let file = host.path("proc/sys/net/core/somaxconn");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("our own file");
    let before = host.everything();
    let output = host.run_without_rights(&["apply"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(host.everything(), before);
}
