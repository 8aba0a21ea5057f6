"""The servers side by side: each started the same way, with its CPU time and memory read from /proc."""

import os
import re
import signal
import subprocess

from .rig import PROGRAMS, TICK, ZONE


class Server:
    """One server of any kind: as a primary from a file, or as a secondary of `primary`. All of `zones` are alike."""

    def __init__(self, kind, folder, address, zone_file=None, primary=None, notify=(), prefix=(), io="auto",
                 zones=(ZONE,)):
        self.kind, self.folder, self.address, self.zones = kind, folder, address, zones
        self.zone_file, self.primary, self.notify = zone_file, primary, list(notify)
        self.prefix, self.io = list(prefix), io
        os.makedirs(os.path.join(folder, "db"), exist_ok=True)
        self.process = None

    def start(self, cpu=None):
        command = getattr(self, "_" + self.kind)()
        log = open(os.path.join(self.folder, "log"), "ab")
        pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
        self.process = subprocess.Popen(
            self.prefix + pin + command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
        )
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def pids(self):
        """The process and all below it, wrappers such as `ip netns exec` left out."""
        waiting, found = [self.process.pid], []
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as children:
                        waiting += map(int, children.read().split())
            except OSError:
                pass
        return found

    def cpu(self):
        """Seconds of user and system time so far."""
        user = system = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
                user, system = user + int(fields[11]), system + int(fields[12])
            except OSError:
                pass
        return user / TICK, system / TICK

    def memory(self):
        """Resident octets: private and of files, shared memory once."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/smaps_rollup") as rollup:
                    total += 1024 * int(re.search(r"^Pss:\s+(\d+)", rollup.read(), re.M).group(1))
            except OSError:
                pass
        return total

    def resident(self):
        """Resident octets: private memory, pages of files, and the most there was of both together."""
        total = [0, 0, 0]
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as status:
                    text = status.read()
            except OSError:
                continue
            for which, key in enumerate(("RssAnon", "RssFile", "VmHWM")):
                found = re.search(rf"^{key}:\s+(\d+)", text, re.M)
                total[which] += 1024 * int(found.group(1)) if found else 0
        return total

    def forget_peak(self):
        """From now on the most is counted anew (proc(5): clear_refs)."""
        for pid in self.pids():
            with open(f"/proc/{pid}/clear_refs", "w") as clear:
                clear.write("5")

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def _backstop(self):
        ip, number = self.address
        source = f'file = "{self.zone_file}"'
        if self.primary:
            source = f'primaries = [{{ address = "{self.primary[0]}:{self.primary[1]}" }}]'
        names = "\n".join(self.zones)
        xdp = '[xdp]\ninterfaces = ["veth-s"]\n' if self.io == "xdp" else ""
        config = self.write(
            "backstop.toml",
            f'{xdp}[server]\nlisten = ["{ip}:{number}"]\nworkers = 1\nio = "{self.io}"\nstate-dir = "state"\n'
            f'[template.default]\n{source}\nallow-transfer = [{{ from = "127.0.0.0/8" }}]\n'
            f'[[zone-list]]\nfile = "{self.write("zones", names)}"\n',
        )
        return [PROGRAMS["backstop"], "serve", "--config", config]

    def _knot(self):
        ip, number = self.address
        remotes, use = "", ""
        if self.primary:
            remotes += f"  - id: primary\n    address: {self.primary[0]}@{self.primary[1]}\n"
            use = "    master: primary\n    acl: notify\n"
        for i, (to, at) in enumerate(self.notify):
            remotes += f"  - id: s{i}\n    address: {to}@{at}\n"
        if self.notify:
            use += "    notify: [" + ", ".join(f"s{i}" for i in range(len(self.notify))) + "]\n"
        config = self.write(
            "knot.conf",
            f"server:\n    listen: {ip}@{number}\n    rundir: {self.folder}\n    udp-workers: 1\n    tcp-workers: 1\n"
            + (f"xdp:\n    listen: veth-s@{number}\n" if self.io == "xdp" else "")
            + f"database:\n    storage: {self.folder}/db\n"
            + (f"remote:\n{remotes}" if remotes else "")
            + "acl:\n  - id: transfer\n    address: 127.0.0.0/8\n    action: transfer\n"
            "  - id: notify\n    address: 127.0.0.0/8\n    action: notify\n"
            f"template:\n  - id: default\n    file: {self.zone_file or '%s.zone'}\n    storage: {self.folder}\n"
            "    zonefile-sync: -1\n    semantic-checks: off\n"
            + (use if self.primary else f"    acl: transfer\n{use}")
            + "zone:\n" + "".join(f"  - domain: {zone}\n" for zone in self.zones),
        )
        return [PROGRAMS["knot"], "-c", config]

    def _nsd(self):
        ip, number = self.address
        source = f'    zonefile: "{self.zone_file}"\n    provide-xfr: 127.0.0.0/8 NOKEY\n'
        if self.primary:
            source = (
                f'    zonefile: "%s.zone"\n    request-xfr: {self.primary[0]}@{self.primary[1]} NOKEY\n'
                "    allow-notify: 127.0.0.0/8 NOKEY\n"
            )
        config = self.write(
            "nsd.conf",
            f'server:\n    ip-address: {ip}@{number}\n    server-count: 1\n    username: ""\n    zonesdir: "{self.folder}"\n'
            f'    pidfile: "{self.folder}/pid"\n    xfrdfile: "{self.folder}/xfrd"\n    zonelistfile: "{self.folder}/list"\n'
            f'    xfrdir: "{self.folder}"\n    database: ""\n    logfile: "{self.folder}/nsd.log"\n'
            f'remote-control:\n    control-enable: no\npattern:\n    name: all\n{source}'
            + "".join(f'zone:\n    name: "{zone}"\n    include-pattern: all\n' for zone in self.zones),
        )
        return [PROGRAMS["nsd"], "-d", "-c", config]

    def _bind(self):
        ip, number = self.address
        source = f'type primary; file "{self.zone_file}"; allow-transfer {{ any; }};'
        if self.primary:
            source = (
                f"type secondary; primaries {{ {self.primary[0]} port {self.primary[1]}; }};"
                " masterfile-format raw; request-ixfr yes;"
            )
        own_file = 'file "{}zone";' if self.primary else ""
        config = self.write(
            "named.conf",
            f'options {{ directory "{self.folder}"; listen-on port {number} {{ {ip}; }}; listen-on-v6 {{ none; }};'
            f' recursion no; pid-file "{self.folder}/pid"; session-keyfile "{self.folder}/session"; notify no;'
            " minimal-responses yes; allow-notify { any; }; transfers-in 100; transfers-per-ns 100;"
            " serial-query-rate 10000; };\ncontrols { };\n"
            + "".join(f'zone "{zone}" {{ {source} {own_file.format(zone)} }};\n' for zone in self.zones),
        )
        return [PROGRAMS["bind"], "-g", "-c", config, "-n", "1"]
