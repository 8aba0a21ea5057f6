"""A large zone: transfer, memory and restart."""

import os
import shutil
import tempfile
import time

from .asking import Asker, wait_for
from .rig import delegations_zone, port, tell
from .servers import Server


def scale(options):
    folder = tempfile.mkdtemp(prefix="backstop-bench-")
    names = options.names
    at = ("127.0.0.1", port())
    zone_file = os.path.join(folder, "zone")
    delegations_zone(zone_file, names)
    primary = Server("knot", os.path.join(folder, "primary"), at, zone_file)
    records = 3 * names + 3
    try:
        primary.start()
        wait_for(Asker(at), 1, 300)
        for kind in options.servers:
            to = ("127.0.0.1", port())
            secondary = Server(kind, os.path.join(folder, kind), to, primary=at)
            secondary.start()
            transfer = wait_for(Asker(to), 1, 300)
            time.sleep(5)
            memory = secondary.memory()
            secondary.stop()
            secondary.start()
            restart = wait_for(Asker(to), 1, 300)
            time.sleep(3)
            again = secondary.memory()
            secondary.stop()
            tell({"bench": "scale", "server": kind, "records": records, "transfer_s": round(transfer, 2),
                  "octets_a_record": round(memory / records, 1), "restart_s": round(restart, 2),
                  "octets_a_record_restarted": round(again / records, 1)})
    finally:
        primary.stop()
        shutil.rmtree(folder, ignore_errors=True)
