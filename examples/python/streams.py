#!/usr/bin/env python3
"""Calls a method with streams: streams.py HOST:PORT Service.Method [JSON] [--take N]. It follows docs/wire.md.

Without the argument in JSON, the messages of the argument come from standard input, one JSON value per line. Each
message of the result is printed as it arrives, and so is the result of a method that has only one. With --take the call
is cancelled after that many messages."""

import json
import socket
import struct
import sys

from client import BODY_MAX, HEADER, JSON, MAGIC, REPLY, REQUEST, STATUS, VERSION, method_hash, read

CANCEL, PING, PONG, DATA, WINDOW, END, FOLLOWS = 3, 4, 5, 8, 9, 11, 2
STREAM_WINDOW, CONNECTION_WINDOW = 65_536, 1 << 20


def header(kind, call, size=0, flags=0, word=0, codec=0):
    return HEADER.pack(MAGIC, VERSION, kind, codec, flags, 0, call, word, 0, 0, size)


class Window:
    """The bytes that one side may send: for one stream, or for the connection (id 0)."""

    def __init__(self, call, size):
        self.call, self.size, self.left, self.taken = call, size, size, 0

    def credit(self, size):
        """Returns the frame that gives back what was taken, once it is half of the window."""
        self.taken += size
        if self.taken < self.size // 2:
            return b""
        frame = header(WINDOW, self.call, 4) + struct.pack("<I", self.taken)
        self.left, self.taken = self.left + self.taken, 0
        return frame


class Call:
    def __init__(self, connection, method, argument=None, follows=False, call=1):
        self.connection, self.stream, self.call = connection, connection.makefile("rb"), call
        self.send_windows = {call: STREAM_WINDOW, 0: CONNECTION_WINDOW}
        self.receive_windows = [Window(call, STREAM_WINDOW), Window(0, CONNECTION_WINDOW)]
        self.status = None
        body = b"" if follows else json.dumps(argument).encode()
        flags = FOLLOWS if follows else 0
        connection.sendall(header(REQUEST, call, len(body), flags, method_hash(method), JSON) + body)

    def receive(self):
        """Handles one frame; returns a message of the result, or nothing."""
        magic, version, kind, _, flags, metadata, call, word, _, _, size = HEADER.unpack(read(self.stream, HEADER.size))
        if magic != MAGIC or version != VERSION or flags or size > BODY_MAX:
            raise OSError("internal: the server's frame cannot be understood")
        body = read(self.stream, metadata + size)[metadata:]
        if kind == PING:
            self.connection.sendall(header(PONG, call))
        elif kind == WINDOW and call in self.send_windows:
            self.send_windows[call] += struct.unpack("<I", body)[0]
        elif kind == REPLY and call == self.call:
            self.status, self.body = word, body
        elif kind == DATA and call == self.call:
            for window in self.receive_windows:
                if window.left <= 0:
                    raise OSError("internal: the server sent more than the window allows")
                window.left -= HEADER.size + metadata + size
            # Taken at once. What is returned for the stream of a call that has ended is dropped.
            frames = [window.credit(HEADER.size + metadata + size) for window in self.receive_windows]
            self.connection.sendall(b"".join(frames))
            return body
        return None

    def send(self, message):
        """Sends a message as soon as both windows are positive; yields what arrives meanwhile."""
        body = json.dumps(message).encode()
        while self.status is None and min(self.send_windows.values()) <= 0:
            yield self.receive()
        if self.status is None:
            for window in self.send_windows:
                self.send_windows[window] -= HEADER.size + len(body)
            self.connection.sendall(header(DATA, self.call, len(body), codec=JSON) + body)

    def end(self):
        if self.status is None:
            self.connection.sendall(header(END, self.call))

    def cancel(self):
        """Cancels the call; its reply still comes, and says so if the call had not ended."""
        self.connection.sendall(header(CANCEL, self.call))
        while self.status is None:
            self.receive()

    def messages(self, source):
        """Sends the messages of `source`, if it is not `None`, and yields those of the result up to the reply."""
        for message in source or ():
            yield from (body for body in self.send(message) if body is not None)
        if source is not None:
            self.end()
        while self.status is None:
            body = self.receive()
            if body is not None:
                yield body
        if self.status != 0:
            name = STATUS[self.status] if self.status < len(STATUS) else "unknown"
            raise OSError(name + ": " + self.body.decode())
        if self.body:
            yield self.body


def main(address, method, argument=None, take=None):
    host, _, port = address.rpartition(":")
    source = None if argument is not None else (json.loads(line) for line in sys.stdin)
    with socket.create_connection((host.strip("[]"), int(port))) as connection:
        value = None if argument is None else json.loads(argument)
        call = Call(connection, method, value, follows=source is not None)
        for count, body in enumerate(call.messages(source), 1):
            print(json.dumps(json.loads(body)), flush=True)
            if count == take:
                call.cancel()
                raise OSError(STATUS[call.status])


if __name__ == "__main__":
    arguments, take = sys.argv[1:], None
    try:
        if "--take" in arguments:
            at = arguments.index("--take")
            take = int(arguments[at + 1])
            del arguments[at : at + 2]
        if len(arguments) not in (2, 3):
            sys.exit(__doc__)
        main(*arguments, take=take)
    except (OSError, ValueError, IndexError) as error:
        sys.exit(str(error))
