"""The grpcio client with generated stubs against the demo server: python3 grpc_client.py ADDRESS PROTO_FOLDER"""

import sys
import threading

import grpc
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value, StringValue, UInt64Value

address, folder = sys.argv[1:3]
sys.path.insert(0, folder)
protos, services = grpc.protos_and_services("coreloop_demo.proto")


def ends(call, code, text):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code and text in error.details(), (error.code(), error.details())
        print(code.name, error.details())
    else:
        raise AssertionError(f"expected {code}")


with grpc.insecure_channel(address) as channel:
    arith, echo, users = (
        services.ArithStub(channel),
        services.EchoStub(channel),
        services.UsersStub(channel),
    )
    assert arith.Multiply(protos.Args(a=6, b=7)).value == 42
    assert arith.Add(protos.Args(a=-5)).value == -5
    assert arith.Add(protos.Args()).value == 0
    assert arith.AddFixed(protos.Args(a=1, b=2)).value == 3
    quotient = arith.Divide(protos.Args(a=-7, b=2))
    assert (quotient.quo, quotient.rem) == (-3, -1)
    print("numbers")

    assert echo.Echo(StringValue(value="é世")).value == "é世"
    large = bytes(range(256)) * 8192
    assert echo.Bytes(BytesValue(value=large)).value == large
    print("text and bytes")

    user = users.Get(UInt64Value(value=11))
    assert (user.id, user.name, user.age, list(user.tags)) == (11, "user-11 é世", 11, ["tag0", "tag1", "tag2"])
    assert dict(user.scores) == {"s0": 5.5, "s1": 5.5 + 1 / 3}
    assert [user.id for user in users.List(Int64Value(value=1000)).items] == list(range(1, 1001))
    print("messages")

    ends(lambda: arith.Divide(protos.Args(a=1)), grpc.StatusCode.INVALID_ARGUMENT, "divide by zero")
    ends(lambda: echo.Sleep(Int64Value(value=-1)), grpc.StatusCode.OUT_OF_RANGE, "out of range")
    ends(lambda: echo.Sleep(Int64Value(value=60000), timeout=0.2), grpc.StatusCode.DEADLINE_EXCEEDED, "")
    ends(lambda: next(users.Watch(Int64Value(value=3))), grpc.StatusCode.UNIMPLEMENTED, "unary calls only")
    ends(lambda: next(echo.Chat(iter([StringValue()]))), grpc.StatusCode.UNIMPLEMENTED, "unary calls only")
    unknown = channel.unary_unary("/Arith/Nothing")
    ends(lambda: unknown(b""), grpc.StatusCode.UNIMPLEMENTED, "there is no method Arith.Nothing")
    multiply = channel.unary_unary("/Arith/Multiply")
    ends(lambda: multiply(b"\xff"), grpc.StatusCode.INVALID_ARGUMENT, "")
    gzip = grpc.Compression.Gzip
    ends(
        lambda: arith.Add(protos.Args(a=1), compression=gzip),
        grpc.StatusCode.UNIMPLEMENTED,
        "grpc-encoding: expected identity, found gzip",
    )

    try:
        echo.Fail(protos.Failure(code=9, message="é 100 %"))
    except grpc.RpcError as error:
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "é 100 %")
        status = dict(error.trailing_metadata())["grpc-status-details-bin"]
        # A google.rpc.Status: its code, its text, and an Any with a google.rpc.ErrorInfo.
        assert status.startswith(b"\x08\x09\x12\x08" + "é 100 %".encode() + b"\x1a"), status
        assert b"type.googleapis.com/google.rpc.ErrorInfo" in status and b"\x0a\x06WANTED" in status, status
        print("a status with a detail")
    else:
        raise AssertionError("expected a failure")
    metadata = (("echo-a", "1"), ("echo-b-bin", b"\0\xff"), ("trail-c", "2"), ("other", "3"))
    reply, call = echo.Meta.with_call(StringValue(value="x"), metadata=metadata)
    assert reply.value == "x"
    assert tuple(call.initial_metadata()) == (("echo-a", "1"), ("echo-b-bin", b"\0\xff")), call.initial_metadata()
    assert ("trail-c", "2") in tuple(call.trailing_metadata()), call.trailing_metadata()
    print("headers and trailers")

    # Many calls at once on one connection.
    futures = [arith.Multiply.future(protos.Args(a=n, b=n)) for n in range(500)]
    assert [future.result().value for future in futures] == [n * n for n in range(500)]
    print("500 calls at once")

    cancelled = threading.Event()
    sleeping = echo.Sleep.future(Int64Value(value=60000))
    sleeping.add_done_callback(lambda _: cancelled.set())
    assert sleeping.cancel() and cancelled.wait(30)
    assert arith.Add(protos.Args(a=1)).value == 1
    print("cancelled")
