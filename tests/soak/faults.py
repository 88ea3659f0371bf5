"""Peers that load generators are not: TLS, connections that are cut, garbage, slow readers and writers, handshakes that stop."""

import os
import random
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time

# Those that must have had answers.
ANSWERED = ["native over TLS: calls answered", "HTTP/1.1 over TLS: calls answered"]


def method(name):
    """FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def request(call, name, body, codec=2):
    return struct.pack("<2sBBBBHQIIII", b"\x19\x96", 1, 0, codec, 0, 0, call, method(name), 0, 0, len(body)) + body


def host(address):
    name, port = address.rsplit(":", 1)
    return name, int(port)


class Peers:
    def __init__(self, address, rate, folder, over, counts):
        self.address, self.rate, self.folder, self.over, self.counts = host(address), max(1, rate), folder, over, counts
        self.random = random.Random(7)
        self.lock = threading.Lock()
        self.tls = ssl.create_default_context(cafile=folder / "cert.pem")

    def count(self, name, more=1):
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + more

    def connect(self, seconds=5):
        return socket.create_connection(self.address, timeout=seconds)

    def read(self, sock, count):
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                raise OSError("the connection has ended")
            data += piece
        return data

    def native_tls(self):
        """Some calls on one connection, which the client ends cleanly or not."""
        with self.tls.wrap_socket(self.connect(), server_hostname="localhost") as sock:
            for call in range(1, 50):
                sock.sendall(request(call, "Arith.Multiply", b'{"A":6,"B":7}'))
                head = self.read(sock, 32)
                meta, size = struct.unpack_from("<H", head, 6)[0], struct.unpack_from("<I", head, 28)[0]
                body = self.read(sock, meta + size)[meta:]
                assert body == b"42", body
                self.count("native over TLS: calls answered")
                if self.over.wait(1 / self.rate):
                    return

    def http_tls(self):
        body = b'{"A":6,"B":7}'
        head = b"POST /Arith/Multiply HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        with self.tls.wrap_socket(self.connect(), server_hostname="localhost") as sock:
            for _ in range(50):
                sock.sendall(head + body)
                answer = b""
                while not answer.endswith(b"42"):
                    answer += sock.recv(4096) or b"ended 42"
                assert answer.startswith(b"HTTP/1.1 200"), answer
                self.count("HTTP/1.1 over TLS: calls answered")
                if b"Connection: close" in answer or self.over.wait(1 / self.rate):
                    return

    def h2load(self):
        """gRPC over TLS from another program."""
        body = self.folder / "body"
        body.write_bytes(b"\0\0\0\0\x04\x08\x06\x10\x07")
        url = f"https://{self.address[0]}:{self.address[1]}/Arith/Multiply"
        command = ["h2load", "--npn-list=h2", "-c", "2", "-D", "5", f"--rps={max(1, self.rate // 2)}", "-d", body, "-H", "content-type: application/grpc", "-H", "te: trailers", url]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        done = [line for line in result.stdout.splitlines() if line.startswith("status codes:")]
        self.count("gRPC over TLS (h2load): answers", int(done[0].split()[2]) if done else 0)

    def cut(self):
        """A call, and a reset in the middle of the next one or of its answer."""
        sock = self.connect()
        whole = request(1, "Users.List", b"500") + request(2, "Echo.Sleep", b"50") + request(3, "Echo.Echo", b'"' + b"x" * 3000 + b'"')
        sock.sendall(whole[: self.random.randrange(1, len(whole))])
        time.sleep(self.random.random() * 0.05)
        if self.random.random() < 0.7:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        self.count("connections cut in a call")

    def garbage(self):
        sock = self.connect()
        starts = [b"", b"\x19\x96\x01\x00", b"POST / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"{", b"\x16\x03\x01\x02\x00", b"\x2e\x7f\x03\x01"]
        try:
            sock.sendall(self.random.choice(starts) + self.random.randbytes(self.random.randrange(1, 4000)))
            sock.settimeout(0.2)
            sock.recv(4096)
        except OSError:
            pass
        sock.close()
        self.count("connections with garbage")

    def slow_reader(self):
        """Asks for more than it reads; the server closes it."""
        sock = self.connect(20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(0.5)
        try:
            for call in range(1, 60):
                sock.sendall(request(call, "Users.List", b"1000"))
        except OSError:
            pass
        for _ in range(20):
            try:
                if self.over.wait(0.5) or not sock.recv(256):
                    break
            except TimeoutError:
                pass
            except OSError:
                break
        sock.close()
        self.count("slow readers")

    def slow_writer(self):
        sock = self.connect(10)
        try:
            for byte in request(1, "Echo.Echo", b'"' + b"x" * 200 + b'"'):
                sock.sendall(bytes([byte]))
                if self.over.wait(0.15):
                    break
        except OSError:
            pass
        sock.close()
        self.count("slow writers")

    def stopped_handshake(self):
        """The first bytes of a handshake, then nothing until the server closes."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self.tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        sock = self.connect(10)
        try:
            sock.sendall(hello[: self.random.randrange(2, len(hello) + 1)])
            while not self.over.is_set() and sock.recv(4096):
                pass
        except OSError:
            pass
        sock.close()
        self.count("handshakes that stop")

    def cut_stream(self):
        """Opens a stream, sends some messages and goes."""
        sock = self.connect()
        try:
            opened = bytearray(request(1, "Echo.Chat", b""))
            opened[5] = 2
            message = bytearray(request(1, "Echo.Chat", b'"soak"'))
            message[3], message[16:20] = 8, b"\0\0\0\0"
            sock.sendall(bytes(opened) + bytes(message) * self.random.randrange(1, 30))
            sock.recv(100)
        except OSError:
            pass
        sock.close()
        self.count("streams cut")

    def silent(self):
        """Connects and says nothing until the server closes the connection."""
        sock = self.connect(15)
        try:
            sock.recv(1)
        except OSError:
            pass
        sock.close()
        self.count("silent connections")

    def again(self, peer, pause):
        while not self.over.wait(pause):
            try:
                peer()
            except (OSError, ssl.SSLError, subprocess.TimeoutExpired):
                # The server has closed the connection, as its limits have it.
                self.count("connections that the server ended")


def start(address, rate, folder, over, counts):
    peers = Peers(address, rate, folder, over, counts)
    plan = [
        (peers.native_tls, 0.05), (peers.http_tls, 0.05), (peers.cut, 0.1), (peers.garbage, 0.1), (peers.slow_reader, 0.5),
        (peers.slow_writer, 0.5), (peers.stopped_handshake, 0.2), (peers.cut_stream, 0.2), (peers.silent, 0.5),
    ]
    if shutil.which("h2load"):
        plan.append((peers.h2load, 1))
    threads = [threading.Thread(target=peers.again, args=entry) for entry in plan]
    for thread in threads:
        thread.start()
    return threads
