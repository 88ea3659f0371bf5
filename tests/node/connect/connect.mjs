// The Connect client (JSON, HTTP/1.1) against the demo services: `node connect.mjs http://127.0.0.1:PORT`.
//
// The messages are described here at run time, without generated code. Scalars travel as protobuf's wrappers, whose JSON
// is the bare value. A line is printed for each check; the first that fails ends the run.

import assert from "node:assert/strict";
import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import {
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
  FileDescriptorProtoSchema,
  MethodOptions_IdempotencyLevel as Level,
  file_google_protobuf_struct as structs,
  file_google_protobuf_wrappers as wrappers,
} from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";

const field = (name, number, type, more = {}) => ({ name, jsonName: name, number, type, label: Label.OPTIONAL, ...more });
// With presence, as `optional` in a .proto file: a 0 is sent, where protobuf's JSON would omit it.
const present = (name, number, type, oneofIndex) => field(name, number, type, { oneofIndex, proto3Optional: true });
const method = (name, inputType, outputType, more = {}) => ({ name, inputType, outputType, ...more });
const free = { options: { idempotencyLevel: Level.NO_SIDE_EFFECTS } };
const wrapper = (name) => `.google.protobuf.${name}Value`;

const describe = (args) => create(FileDescriptorProtoSchema, {
  name: "demo.proto",
  syntax: "proto3",
  dependency: ["google/protobuf/wrappers.proto", "google/protobuf/struct.proto"],
  messageType: [
    {
      name: "Args",
      field: [present("A", 1, Type.INT32, 0), present("B", 2, Type.INT32, 1)],
      oneofDecl: [{ name: "_A" }, { name: "_B" }],
    },
    { name: "Plain", field: [field("A", 1, Type.INT32), field("B", 2, Type.INT32)] },
    { name: "Wide", field: [field("A", 1, Type.INT64), field("B", 2, Type.INT64)] },
    { name: "Failure", field: [field("Code", 1, Type.INT32), field("Message", 2, Type.STRING)] },
    {
      // google/rpc/error_details.proto, without its map.
      name: "ErrorInfo",
      field: [field("reason", 1, Type.STRING), field("domain", 2, Type.STRING)],
    },
    { name: "Quotient", field: [field("Quo", 1, Type.INT64), field("Rem", 2, Type.INT64)] },
    {
      name: "User",
      field: [
        field("ID", 1, Type.UINT64),
        field("Name", 2, Type.STRING),
        field("Age", 3, Type.UINT32),
        field("Email", 4, Type.STRING),
        field("Tags", 5, Type.STRING, { label: Label.REPEATED }),
        field("Scores", 6, Type.MESSAGE, { label: Label.REPEATED, typeName: ".User.ScoresEntry" }),
      ],
      nestedType: [
        {
          name: "ScoresEntry",
          field: [field("key", 1, Type.STRING), field("value", 2, Type.DOUBLE)],
          options: { mapEntry: true },
        },
      ],
    },
  ],
  service: [
    {
      name: "Arith",
      method: [
        method("Add", args, wrapper("Int64")),
        method("AddFixed", args, wrapper("Int64")),
        method("Multiply", args, wrapper("Int64")),
        method("Divide", args, ".Quotient"),
        method("Halve", args, ".Quotient"),
      ],
    },
    {
      name: "Echo",
      method: [
        method("Echo", wrapper("String"), wrapper("String")),
        method("Bytes", wrapper("Bytes"), wrapper("Bytes")),
        method("Sleep", wrapper("Int32"), wrapper("Int32")),
        method("Fail", ".Failure", wrapper("String")),
        method("Meta", wrapper("String"), wrapper("String")),
      ],
    },
    {
      name: "Users",
      method: [
        method("Get", wrapper("UInt32"), ".User", free),
        method("List", wrapper("Int32"), ".google.protobuf.ListValue", free),
      ],
    },
  ],
});
const imports = { [wrappers.proto.name]: wrappers, [structs.proto.name]: structs };
/** The services, with this message for the arguments of `Arith`. */
const servicesWith = (args) => createFileRegistry(describe(args), (name) => imports[name]);
const registry = servicesWith(".Args");

const baseUrl = process.argv[2];
const options = { baseUrl, httpVersion: "1.1", useBinaryFormat: false };
const transport = createConnectTransport(options);
const [arith, echo, users] = ["Arith", "Echo", "Users"].map((name) => createClient(registry.getService(name), transport));

const fails = async (call, code, message) => {
  const error = await call.then(() => assert.fail("it went well"), (error) => ConnectError.from(error));
  assert.equal(Code[error.code], Code[code], error.message);
  if (message !== undefined) assert.match(error.rawMessage, message);
};

const checks = {
  "a status with a detail": async () => {
    const call = echo.fail({ Code: 9, Message: "é\n" });
    const error = await call.then(() => assert.fail("it went well"), (error) => ConnectError.from(error));
    assert.deepEqual([error.code, error.rawMessage], [Code.FailedPrecondition, "é\n"]);
    // The client finds a detail by the name of its message; here that has no package.
    assert.deepEqual(error.details.map(({ type }) => type), ["google.rpc.ErrorInfo"]);
    const [{ value, debug }] = error.details;
    const info = fromBinary(registry.getMessage("ErrorInfo"), value);
    assert.deepEqual([info.reason, info.domain], ["WANTED", "coreloop.demo"]);
    assert.equal(debug.metadata.code, "failed_precondition");
  },
  "headers and trailers": async () => {
    const headers = { "echo-a": "1", "trail-b": "2", "other": "3" };
    let head, trail;
    const onHeader = (found) => (head = found), onTrailer = (found) => (trail = found);
    await echo.meta({ value: "x" }, { headers, onHeader, onTrailer });
    assert.deepEqual([head.get("echo-a"), head.get("other"), trail.get("trail-b")], ["1", null, "2"]);
    assert.equal(head.get("trailer-trail-b"), null);
  },
  "objects both ways": async () => {
    const { Quo, Rem } = await arith.divide({ A: -7, B: 2 });
    assert.deepEqual([Quo, Rem], [-3n, -1n]);
    const even = await arith.divide({ A: 0, B: 2 });
    assert.deepEqual([even.Quo, even.Rem], [0n, 0n]);
  },
  "a bare number is a wrapper": async () => {
    assert.equal((await arith.multiply({ A: 6, B: 7 })).value, 42n);
    assert.equal((await arith.add({ A: 0, B: -7 })).value, -7n);
    assert.equal((await arith.addFixed({ A: 6, B: 7 })).value, 13n);
    assert.equal((await echo.sleep({ value: 0 })).value, 0);
  },
  "text and bytes": async () => {
    assert.equal((await echo.echo({ value: "é世\n\u0000" })).value, "é世\n\u0000");
    const value = Uint8Array.from({ length: 1000 }, (_, at) => at);
    assert.deepEqual((await echo.bytes({ value })).value, value);
  },
  "a message with everything in it": async () => {
    const user = await users.get({ value: 5 });
    assert.deepEqual(
      [user.ID, user.Name, user.Age, user.Email, user.Tags, Object.keys(user.Scores)],
      [5n, "user-5 é世", 5, "u5@example.com", ["tag0"], ["s0", "s1"]],
    );
    assert.equal((await users.list({ value: 100 })).values.length, 100);
  },
  "GET where nothing changes": async () => {
    const getting = createClient(registry.getService("Users"), createConnectTransport({ ...options, useHttpGet: true }));
    assert.equal((await getting.get({ value: 5 })).ID, 5n);
  },
  "errors have their code": async () => {
    await fails(arith.divide({ A: 1, B: 0 }), Code.InvalidArgument, /^divide by zero$/);
    await fails(users.list({ value: -1 }), Code.OutOfRange, /^n out of range$/);
    await fails(arith.halve({ A: 1, B: 1 }), Code.Unimplemented, /Arith\.Halve/);
    // An omitted field is 0, as in protobuf.
    await fails(arith.divide({ A: 1 }), Code.InvalidArgument, /^divide by zero$/);
  },
  "headers come back": async () => {
    let timing;
    await arith.multiply({ A: 6, B: 7 }, { onHeader: (headers) => { timing = headers.get("Server-Timing"); } });
    assert.match(timing, /^queue;dur=\d+\.\d{3}, handler;dur=\d+\.\d{3}$/);
  },
  "a timeout": async () => {
    await fails(echo.sleep({ value: 60_000 }, { timeoutMs: 50 }), Code.DeadlineExceeded);
  },
  "a caller who gives up": async () => {
    const giving = new AbortController();
    const call = echo.sleep({ value: 60_000 }, { signal: giving.signal });
    giving.abort();
    await fails(call, Code.Canceled);
  },
  "many at once": async () => {
    const sums = Array.from({ length: 200 }, (_, at) => arith.add({ A: at, B: at }));
    assert.deepEqual((await Promise.all(sums)).map(({ value }) => value), sums.map((_, at) => BigInt(2 * at)));
  },
  "what protobuf's JSON leaves out or writes otherwise": async () => {
    // A field without presence is omitted when it is 0, and 64 bits are written as text.
    const [plain, wide] = [".Plain", ".Wide"].map((args) => createClient(servicesWith(args).getService("Arith"), transport));
    assert.equal((await plain.divide({ A: 0, B: 2 })).Quo, 0n);
    assert.equal((await wide.divide({ A: 6n, B: 2n })).Quo, 3n);
  },
  "the binary format is refused": async () => {
    const binary = createClient(registry.getService("Arith"), createConnectTransport({ ...options, useBinaryFormat: true }));
    await fails(binary.divide({ A: 6, B: 2 }), Code.Unimplemented);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(name);
}
