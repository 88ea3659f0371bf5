#!/usr/bin/env python3
"""Calls a coreloop server: client.py HOST:PORT Service.Method [JSON]. It follows docs/wire.md."""

import json
import socket
import struct
import sys

# magic, version, kind, codec, flags, metadata bytes, id, method | status, schema | queued, time | handler, body bytes
HEADER = struct.Struct("<2sBBBBHQIIII")
MAGIC, VERSION, REQUEST, REPLY, JSON, BODY_MAX = b"\x19\x96", 1, 0, 1, 2, 64 << 20
STATUS = """ok cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied
resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss
unauthenticated""".split()


def method_hash(name):
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def read(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise OSError("unavailable: the connection ended; the call may have run")
    return data


def next_frame(stream):
    magic, version, kind, _, flags, metadata, call, word, _, _, size = HEADER.unpack(read(stream, HEADER.size))
    if magic != MAGIC or version != VERSION or flags or size > BODY_MAX:
        raise OSError("internal: the server's frame cannot be understood")
    return kind, call, word, read(stream, metadata + size)[metadata:]


def call(host, port, method, argument):
    body = json.dumps(argument).encode()
    with socket.create_connection((host, port)) as connection:
        connection.sendall(HEADER.pack(MAGIC, VERSION, REQUEST, JSON, 0, 0, 1, method_hash(method), 0, 0, len(body)) + body)
        stream = connection.makefile("rb")
        kind = answered = None
        while (kind, answered) != (REPLY, 1):  # a drain notice, or what a later version may send
            kind, answered, status, body = next_frame(stream)
    if status != 0:
        raise OSError((STATUS[status] if status < len(STATUS) else "unknown") + ": " + body.decode())
    return json.loads(body)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        host, _, port = sys.argv[1].rpartition(":")
        print(json.dumps(call(host.strip("[]"), int(port), sys.argv[2], json.loads((sys.argv[3:] or ["null"])[0]))))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
