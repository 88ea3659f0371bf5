// The Connect client (JSON, HTTP/1.1) with the special cases of protobuf's JSON mapping: zeros that are omitted,
// google.protobuf.Empty, NaN and infinities, 64 bits as text, bytes. `node values.mjs http://127.0.0.1:PORT`.

import assert from "node:assert/strict";
import { create, createFileRegistry } from "@bufbuild/protobuf";
import {
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
  FileDescriptorProtoSchema,
  MethodOptions_IdempotencyLevel as Level,
  file_google_protobuf_empty as empty,
} from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";

const field = (name, number, type, more = {}) => ({ name, jsonName: name, number, type, label: Label.OPTIONAL, ...more });
const free = { options: { idempotencyLevel: Level.NO_SIDE_EFFECTS } };
const file = create(FileDescriptorProtoSchema, {
  name: "values.proto",
  syntax: "proto3",
  dependency: ["google/protobuf/empty.proto"],
  messageType: [
    { name: "Point", field: [field("x", 1, Type.DOUBLE), field("y", 2, Type.FLOAT)] },
    {
      name: "AllValues",
      field: [
        field("long", 1, Type.INT64),
        field("unsigned", 2, Type.UINT64),
        field("real", 3, Type.DOUBLE),
        field("data", 4, Type.BYTES),
        field("text", 5, Type.STRING),
        field("yes", 6, Type.BOOL),
        field("points", 7, Type.MESSAGE, { label: Label.REPEATED, typeName: ".Point" }),
        field("main", 8, Type.MESSAGE, { typeName: ".Point" }),
        field("color", 9, Type.ENUM, { typeName: ".Color" }),
      ],
    },
  ],
  enumType: [{ name: "Color", value: [{ name: "RED", number: 0 }, { name: "GREEN", number: 1 }] }],
  service: [
    {
      name: "Values",
      method: [
        { name: "Same", inputType: ".AllValues", outputType: ".AllValues" },
        { name: "Nothing", inputType: ".google.protobuf.Empty", outputType: ".google.protobuf.Empty", ...free },
      ],
    },
  ],
});
const registry = createFileRegistry(file, (name) => ({ [empty.proto.name]: empty.proto })[name]);
const options = { baseUrl: process.argv[2], httpVersion: "1.1", useBinaryFormat: false };
const client = (more) => createClient(registry.getService("Values"), createConnectTransport({ ...options, ...more }));

const same = async (sent) => {
  const back = await client().same(sent);
  for (const [name, value] of Object.entries(sent)) assert.deepEqual(back[name], value, name);
  return back;
};

const zeros = await client().same({});
assert.deepEqual(
  [zeros.long, zeros.unsigned, zeros.real, zeros.data.length, zeros.text, zeros.yes, zeros.points, zeros.color],
  [0n, 0n, 0, 0, "", false, [], 0],
);
await same({ long: -(2n ** 63n), unsigned: 2n ** 53n, data: Uint8Array.from([251, 255]), text: "é", yes: true, color: 1 });
for (const real of [NaN, Infinity, -Infinity, 1.5]) await same({ real });
const { points, main } = await client().same({ points: [{ y: Infinity }, {}], main: { x: NaN } });
assert.deepEqual(points.map(({ x, y }) => [x, y]), [[0, Infinity], [0, 0]]);
assert.deepEqual([main.x, main.y], [NaN, 0]);
await client().nothing({});
await client({ useHttpGet: true }).nothing({});
console.log("every value is as it must be");
