"""A large zone: transfer, restart, transfer of other data while it is served, and what memory that takes."""

import os
import shutil
import socket
import struct
import tempfile
import time

from .asking import Asker, soa_query, wait_for
from .rig import delegations_zone, port, tell
from .servers import Server

SERIAL = 1000000001
# How long a server is left alone before its memory is read: some free what they do not need with a delay.
SETTLE_S = 5
# What is told of each server, and what the others' figures are divided by Backstop's for.
FIGURES = {
    "transfer_s": "AXFR until served, s",
    "transfer_cpu_s": "CPU of that, s",
    "octets_a_record": "octets a record: RssAnon + RssFile",
    "restart_s": "restart until served, s",
    "restart_cpu_s": "CPU of that, s",
    "octets_a_record_restarted": "octets a record after it",
    "again_s": "AXFR of other data until served, s",
    "again_peak_octets_a_record": "octets a record at its peak",
    "again_octets_a_record": "octets a record after it",
}


def scale(options):
    folder = tempfile.mkdtemp(prefix="backstop-bench-")
    at = ("127.0.0.1", port())
    zone_file = os.path.join(folder, "zone")
    primary = Server("knot", os.path.join(folder, "primary"), at, zone_file)
    rows = {}
    try:
        for turn, kind in enumerate(options.servers):
            serve(primary, options.names, SERIAL + 2 * turn)
            secondary = Server(kind, os.path.join(folder, kind), ("127.0.0.1", port()), primary=at)
            rows[kind] = {}
            try:
                measure(secondary, primary, options.names, SERIAL + 2 * turn, rows[kind])
            except SystemExit as failed:
                print(f"# {kind}: {failed}", flush=True)
            finally:
                secondary.stop()
                shutil.rmtree(secondary.folder, ignore_errors=True)
            tell({"bench": "scale", "server": kind, "names": options.names, **rows[kind]})
    finally:
        primary.stop()
        shutil.rmtree(folder, ignore_errors=True)
    table(rows, 3 * options.names + 3)


def serve(primary, names, serial):
    """Has the primary serve a version none of whose addresses are those of the version before."""
    primary.stop()
    delegations_zone(primary.zone_file, names, serial)
    # Without its journal it cannot tell the difference.
    shutil.rmtree(os.path.join(primary.folder, "db"))
    os.mkdir(os.path.join(primary.folder, "db"))
    primary.start()
    wait_for(Asker(primary.address), serial, 300)


def measure(secondary, primary, names, serial, row):
    records = 3 * names + 3

    def served(serial):
        elapsed, cpu = wait_for(Asker(secondary.address), serial, 300), sum(secondary.cpu())
        time.sleep(SETTLE_S)
        anonymous, of_files, _ = secondary.resident()
        return round(elapsed, 2), round(cpu, 2), round((anonymous + of_files) / records, 1)

    secondary.start()
    row.update(zip(("transfer_s", "transfer_cpu_s", "octets_a_record"), served(serial)))
    row["proportional_octets_a_record"] = round(secondary.memory() / records, 1)
    secondary.stop()
    secondary.start()
    row.update(zip(("restart_s", "restart_cpu_s", "octets_a_record_restarted"), served(serial)))
    serve(primary, names, serial + 1)
    secondary.forget_peak()
    notify(secondary.address)
    row["again_s"], _, row["again_octets_a_record"] = served(serial + 1)
    row["again_peak_octets_a_record"] = round(secondary.resident()[2] / records, 1)


def notify(address):
    """Says that the zone has changed (RFC 1996)."""
    query = bytearray(soa_query(os.getpid() & 0xFFFF))
    struct.pack_into(">H", query, 2, 0x2400)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(query, address)


def table(rows, records):
    print(f"{records} records; in brackets: how many times Backstop's")
    print("".join([" " * 38] + [f"{kind:>18}" for kind in rows]))
    for key, label in FIGURES.items():
        ours = rows.get("backstop", {}).get(key)
        line = f"{label:<38}"
        for kind, row in rows.items():
            figure = row.get(key)
            ratio = f"({figure / ours:.1f})" if ours and figure and kind != "backstop" else ""
            line += f"{'-' if figure is None else figure:>11} {ratio:>6}"
        print(line)
