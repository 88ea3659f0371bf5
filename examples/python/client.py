#!/usr/bin/env python3
"""Calls a coreloop server: client.py HOST:PORT Service.Method [JSON]. Written from docs/wire.md alone."""

import json, socket, struct, sys

# magic, version, kind, codec, flags, metadata bytes, id, method | status, schema | queued, time | handler, body bytes
HEADER = struct.Struct("<2sBBBBHQIIII")
MAGIC, VERSION, JSON, BODY_MAX = b"\x19\x96", 1, 2, 64 << 20
REQUEST, REPLY, PING, PONG = 0, 1, 4, 5
STATUS = """ok cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied
resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss
unauthenticated""".split()


def method_hash(name):
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def frame(kind, call, word=0, body=b""):
    return HEADER.pack(MAGIC, VERSION, kind, JSON, 0, 0, call, word, 0, 0, len(body)) + body


def read(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise OSError("unavailable: the connection ended; the call may have run")
    return data


def next_frame(stream):
    magic, version, kind, _, flags, metadata, call, word, _, _, size = HEADER.unpack(read(stream, HEADER.size))
    if magic != MAGIC or version != VERSION or size > BODY_MAX or flags:
        raise OSError("internal: the server's frame cannot be understood")
    return kind, call, word, read(stream, metadata + size)[metadata:]


def call(address, method, argument):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host.strip("[]"), int(port))) as connection:
        stream = connection.makefile("rb")
        connection.sendall(frame(REQUEST, 1, method_hash(method), json.dumps(argument).encode()))
        while True:
            kind, answered, status, body = next_frame(stream)
            if kind == PING:
                connection.sendall(frame(PONG, answered))
            elif kind == REPLY and answered == 1:
                if status == 0:
                    return json.loads(body)
                name = STATUS[status] if status < len(STATUS) else "unknown"
                raise RuntimeError(f"{name}: {body.decode()}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        print(json.dumps(call(sys.argv[1], sys.argv[2], json.loads((sys.argv[3:] or ["null"])[0]))))
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
