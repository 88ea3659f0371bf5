"""The health checking protocol of gRPC, with the messages of grpcio-health-checking: python3 grpc_probe.py ADDRESS

Prints the states of the server, Arith and Echo, and of a service that does not exist."""

import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

with grpc.insecure_channel(sys.argv[1]) as channel:
    health = HealthStub(channel)
    for service in ["", "Arith", "Echo", "Nope"]:
        try:
            status = health.Check(HealthCheckRequest(service=service), timeout=30).status
            print(HealthCheckResponse.ServingStatus.Name(status))
        except grpc.RpcError as error:
            print(error.code().name)
    # Clients take this for "watching is not possible", and go on without it.
    try:
        next(health.Watch(HealthCheckRequest(), timeout=30))
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    else:
        raise AssertionError("expected UNIMPLEMENTED")
