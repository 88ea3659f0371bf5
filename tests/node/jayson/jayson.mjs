// jayson against a served coreloop, over HTTP and over TCP: calls, batches, notifications, versions 1.0 and 2.0.
//
//   node jayson.mjs HOST:PORT
//
// Prints one line for each case that passes; the first failure ends the run.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const jayson = createRequire(import.meta.url)("jayson");
const [host, port] = process.argv[2].split(":");
const address = { host, port: Number(port) };

const clients = {
  "HTTP /": (options) => jayson.Client.http({ ...address, path: "/", ...options }),
  "HTTP /rpc": (options) => jayson.Client.http({ ...address, path: "/rpc", ...options }),
  TCP: (options) => jayson.Client.tcp({ ...address, ...options }),
};

const settle = (send) =>
  new Promise((resolve, reject) => send((error, response) => (error ? reject(error) : resolve(response))));

for (const [name, client] of Object.entries(clients)) {
  const two = client({});
  const call = (method, params, id) => settle((done) => two.request(method, params, id, done));

  let answer = await call("Arith.Multiply", { A: 6, B: 7 }, "x");
  assert.deepEqual(answer, { jsonrpc: "2.0", id: "x", result: 42 });
  answer = await call("Arith.Add", [{ A: 6, B: 7 }], 9007199254740991);
  assert.deepEqual(answer, { jsonrpc: "2.0", id: 9007199254740991, result: 13 });
  answer = await call("Users.Get", [3]);
  assert.equal(answer.result.Name, "user-3 é世");
  console.log(`${name}: calls of 2.0`);

  answer = await call("Arith.Divide", { A: 1, B: 0 });
  assert.deepEqual(answer.error, { code: -32602, message: "divide by zero", data: { code: "invalid_argument" } });
  answer = await call("Arith.Nothing", []);
  assert.equal(answer.error.code, -32601);
  console.log(`${name}: errors of 2.0`);

  const batch = [
    two.request("Arith.Add", [{ A: 1, B: 2 }], "a", undefined, false),
    two.request("Arith.Divide", [{ A: 1, B: 0 }], "b", undefined, false),
    two.request("Echo.Sleep", [20], "c", undefined, false),
    two.request("Echo.Echo", ["no answer"], null, undefined, false),
    two.request("Echo.Echo", ["é"], "d", undefined, false),
  ];
  answer = await settle((done) => two.request(batch, done));
  assert.deepEqual(answer.map(({ id }) => id), ["a", "b", "c", "d"]);
  assert.equal(answer[0].result, 3);
  assert.equal(answer[1].error.code, -32602);
  assert.equal(answer[3].result, "é");
  console.log(`${name}: a batch`);

  assert.equal(await settle((done) => two.request("Echo.Echo", ["no answer"], null, done)), undefined);
  console.log(`${name}: a notification`);

  const one = client({ version: 1 });
  answer = await settle((done) => one.request("Arith.Multiply", [{ A: 6, B: 7 }], 5, done));
  assert.deepEqual(answer, { id: 5, result: 42, error: null });
  answer = await settle((done) => one.request("Arith.Nothing", [1], 6, done));
  assert.deepEqual(answer, { id: 6, result: null, error: "rpc: can't find method Arith.Nothing" });
  console.log(`${name}: version 1.0`);
}
process.exit(0);
