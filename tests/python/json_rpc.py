"""JSON-RPC clients of Python against a served coreloop: jsonrpclib-pelix (2.0 and 1.0) and jsonrpcclient.

    python3 json_rpc.py http://HOST:PORT

Prints one line for each case that passes; the first failure ends the run.
"""

import sys
import urllib.request

import jsonrpcclient
import jsonrpclib
from jsonrpclib.config import Config

url = sys.argv[1]

for version in [2.0, 1.0]:
    server = jsonrpclib.ServerProxy(url, config=Config(version=version))
    assert server.Arith.Multiply({"A": 6, "B": 7}) == 42
    try:
        server.Arith.Divide({"A": 1, "B": 0})
        raise SystemExit("a division by zero has a result")
    except jsonrpclib.ProtocolError as error:
        assert "divide by zero" in str(error), error
    print(f"jsonrpclib: calls of {version}")

server = jsonrpclib.ServerProxy(url + "/rpc")
batch = jsonrpclib.MultiCall(server)
batch.Arith.Add({"A": 1, "B": 2})
batch.Echo.Echo("\u00e9\u4e16")
assert list(batch()) == [3, "\u00e9\u4e16"]
print("jsonrpclib: a batch")
assert server._notify.Echo.Echo("no answer") is None
print("jsonrpclib: a notification")


def post(body):
    request = urllib.request.Request(url + "/rpc", body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response.status, response.read().decode()


status, body = post(jsonrpcclient.request_json("Arith.Add", params=[{"A": 1, "B": 2}]))
parsed = jsonrpcclient.parse_json(body)
assert status == 200 and isinstance(parsed, jsonrpcclient.Ok) and parsed.result == 3, body
status, body = post(jsonrpcclient.request_json("Arith.Nothing"))
parsed = jsonrpcclient.parse_json(body)
assert status == 200 and isinstance(parsed, jsonrpcclient.Error) and parsed.code == -32601, body
print("jsonrpcclient: a call and an error")
assert post(jsonrpcclient.notification_json("Echo.Echo", params=["no answer"])) == (200, "")
print("jsonrpcclient: a notification")
