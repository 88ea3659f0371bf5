"""Soak test: a server under mixed calls and faults, whose memory, descriptors and threads are sampled.

Started by tests/soak.sh. Three results in the folder --out: table.md, samples.csv, soak.svg. Exit status 1: something grew,
a protocol had no answers, or the server did not end cleanly.

The last third of the run is compared with the second, by medians:

- resident memory: at most 5 % and 1 MiB more;
- descriptors: at most 10 % and 8 more;
- threads: at most 2 more.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import faults
import picture

# Names, keys of a sample, and how much more the last third may have: a factor and a constant.
CURVES = [
    ("resident memory, MiB", "rss_mib", 1.05, 1.0),
    ("descriptors", "descriptors", 1.10, 8.0),
    ("threads", "threads", 1.0, 2.0),
]
# Short times, so that faulty peers come and go within the run.
LIMITS = """
[limits]
idle_ms = {idle_ms}
first_bytes_ms = 2000
tls_handshake_ms = 2000
head_ms = 3000
frame_ms = 3000
write_stall_ms = 4000
connection_age_max_ms = 45000
"""


def sample(pid, began):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "seconds": round(time.monotonic() - began, 1),
        "rss_mib": int(values["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(values["Threads"]),
    }


def certificate(folder):
    command = "openssl req -x509 -newkey ed25519 -days 30 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(command.split() + ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, stderr=subprocess.DEVNULL)


def start(binary, folder):
    command = [
        binary / "coreloop", "serve", "--config", folder / "server.toml", "--listen", "127.0.0.1:0", "--admin", "off",
        "--set", "tls.mode=optional", "--set", f"tls.certificate={folder}/cert.pem", "--set", f"tls.key={folder}/key.pem",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(folder / "log", "w"), text=True)
    line = server.stdout.readline()
    if not line.startswith("listening on "):
        sys.exit(f"the server does not start: {(folder / 'log').read_text()}")
    return server, line.removeprefix("listening on ").strip()


def generators(binary, address, rate, seconds, folder):
    """Starts a load generator for each protocol; returns processes and where their figures will be."""
    each = max(1, rate // 8)
    loads = {
        "native": ["native", "--mix", "Arith.AddFixed=90,Users.List:20=8,Echo.Sleep:5=2", "--connections", "8"],
        "native, one connection": ["native", "--method", "Arith.AddFixed", "--connections", "1"],
        "gob": ["gob", "--method", "Arith.Multiply", "--connections", "4"],
        "JSON-RPC": ["jsonrpc", "--method", "Arith.Multiply", "--connections", "4"],
        "HTTP/1.1": ["http", "--method", "Arith.Multiply", "--connections", "4"],
        "gRPC": ["grpc", "--method", "Arith.Multiply", "--connections", "4"],
        "streams": ["native", "--method", "Echo.Chat", "--body", '"soak"', "--streams", "8", "--messages", "500"],
    }
    running = {}
    for name, (protocol, *options) in loads.items():
        figures = folder / (name.replace("/", "-").replace(" ", "-") + ".json")
        command = [binary / "loadgen", f"{protocol}:{address}", *options, "--rate", str(each), "--warmup", "0s", "--duration", f"{seconds}s", "--json", figures]
        log = open(figures.with_suffix(".log"), "w")
        running[name] = (subprocess.Popen(command, stdout=log, stderr=log), figures)
    return running


def answered(figures):
    try:
        found = json.loads(figures.read_text())
        total, connections = found["total"], found["connections"]
        kinds = [f"{status} {count}" for status, count in total["errors_by_status"].items()]
        if connections["lost"]:
            kinds.append(f"{connections['lost']} connections lost, with {total['lost']} calls ({connections['first_trouble']})")
    except (OSError, ValueError, KeyError):
        return None
    return total["ok"], ", ".join(kinds) or "none"


def reload_now_and_then(server, folder, over, counts):
    """Changes the configuration, sometimes to one that is not valid, and has it read again."""
    texts = [LIMITS.format(idle_ms=9000), LIMITS.format(idle_ms=11000), "limits.idle_ms = 'soon'\n"]
    for at in range(1 << 30):
        if over.wait(7):
            return
        written = folder / "server.toml.new"
        written.write_text(texts[at % len(texts)])
        written.rename(folder / "server.toml")
        server.send_signal(signal.SIGHUP)
        counts["reloads (SIGHUP), a third of them refused"] = at + 1


def judge(samples):
    """Returns the rows of the table, and whether all is flat."""
    third = len(samples) // 3
    rows, is_flat = [], True
    for name, key, factor, more in CURVES:
        first, second, last = (statistics.median(s[key] for s in part) for part in (samples[:third], samples[third : 2 * third], samples[2 * third :]))
        allowed = second * factor + more
        is_flat &= last <= allowed
        peak = max(s[key] for s in samples)
        rows.append((name, first, second, last, allowed, peak, "flat" if last <= allowed else "GROWS"))
    return rows, is_flat


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rate", type=int, default=800)
    parser.add_argument("--minutes", type=float, default=30)
    args = parser.parse_args()
    seconds = max(15, round(args.minutes * 60))
    every = max(0.5, min(5, seconds / 300))
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        certificate(folder)
        (folder / "server.toml").write_text(LIMITS.format(idle_ms=10000))
        server, address = start(args.bin, folder)
        over, counts = threading.Event(), {}
        loads, others = {}, []
        try:
            loads = generators(args.bin, address, args.rate, seconds, folder)
            others = faults.start(address, args.rate // 8, folder, over, counts)
            others.append(threading.Thread(target=reload_now_and_then, args=(server, folder, over, counts)))
            others[-1].start()
            began, samples, told = time.monotonic(), [], 0
            while time.monotonic() - began < seconds:
                if server.poll() is not None:
                    sys.exit(f"the server has ended with status {server.returncode}:\n{(folder / 'log').read_text()[-4000:]}")
                samples.append(sample(server.pid, began))
                if samples[-1]["seconds"] >= told:
                    told += max(10, seconds // 30)
                    print("{seconds:7.0f} s  {rss_mib:6.1f} MiB  {descriptors} descriptors  {threads} threads".format(**samples[-1]), flush=True)
                time.sleep(every)
            cpu = sum(map(int, pathlib.Path(f"/proc/{server.pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        finally:
            over.set()
            for thread in others:
                thread.join(30)
            for process, _ in loads.values():
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
            server.terminate()
            try:
                status = server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                status = "killed after 30 s"
        calls = {name: answered(figures) for name, (_, figures) in loads.items()}
        logs = {name: figures.with_suffix(".log").read_text()[-600:] for name, (_, figures) in loads.items() if not calls[name]}
    rows, is_flat = judge(samples)
    lines = [f"{seconds} s, {len(samples)} samples; the server used {cpu:.1f} s of CPU time and ended with status {status}.", ""]
    lines += ["| | first third | second third | last third | at most | peak | |", "|---|---|---|---|---|---|---|"]
    lines += ["| {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {} |".format(*row) for row in rows]
    lines += ["", "| calls | answered | errors |", "|---|---|---|"]
    lines += [f"| {name} | {found[0] if found else 'no figures'} | {found[1] if found else ''} |" for name, found in calls.items()]
    lines += ["", "| other peers | times |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in sorted(counts.items())]
    text = "\n".join(lines) + "\n"
    (args.out / "table.md").write_text(text)
    with open(args.out / "samples.csv", "w") as out:
        out.write("seconds,rss_mib,descriptors,threads\n")
        out.writelines("{seconds},{rss_mib:.2f},{descriptors},{threads}\n".format(**s) for s in samples)
    (args.out / "soak.svg").write_text(picture.draw(samples, CURVES))
    print(text)
    for name, log in logs.items():
        print(f"{name}: no figures\n{log}", file=sys.stderr)
    silent = [name for name, found in calls.items() if not found or found[0] == 0] + [name for name in faults.ANSWERED if not counts.get(name)]
    if silent:
        print(f"without answers: {', '.join(silent)}", file=sys.stderr)
    sys.exit(0 if is_flat and not silent and status == 0 else 1)


if __name__ == "__main__":
    main()
