// The console page in a real Chromium, over the DevTools protocol on a pipe: `node console.mjs URL [SCREENSHOT.png]`.
//
// Calls Arith.Multiply by the page's own button, reads the page's output, and checks errors, the filter and links.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [url, screenshot] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "chromium-"));
const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", `--user-data-dir=${profile}`, "--remote-debugging-pipe",
  "--window-size=1000,1200", "about:blank",
];
const chromium = spawn(process.env.CHROMIUM ?? "chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const ended = new Promise((resolve) => chromium.on("exit", resolve));

let last = 0;
let rest = "";
const waiting = new Map();
chromium.stdio[4].setEncoding("utf8");
chromium.stdio[4].on("data", (data) => {
  const messages = (rest + data).split("\0");
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    const { resolve, reject } = waiting.get(message.id) ?? {};
    if (message.error) reject?.(new Error(message.error.message));
    else resolve?.(message.result);
  }
});
const ask = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
  waiting.set(++last, { resolve, reject });
  chromium.stdio[3].write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
});

const run = async () => {
  const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await ask("Target.attachToTarget", { targetId, flatten: true });
  // The value of an expression; waits if it is a promise.
  const page = async (expression) => {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await ask("Runtime.evaluate", params, sessionId);
    assert.equal(exceptionDetails, undefined, exceptionDetails?.exception?.description);
    return result.value;
  };
  // Waits in the page for its changes. There is no timeout here: the program that started this script has one.
  await ask("Page.addScriptToEvaluateOnNewDocument", { source: `const until = (holds) => new Promise((resolve) => {
    const look = () => holds() ? resolve(true) : setTimeout(look, 10);
    look();
  });` }, sessionId);
  await ask("Page.enable", {}, sessionId);
  await ask("Page.navigate", { url: `${url}/#Arith.Multiply` }, sessionId);
  await page(`until(() => document.getElementById("Arith.Multiply")?.open)`);
  const called = async (name, argument) => page(`(async () => {
    const box = document.getElementById(${JSON.stringify(name)});
    const [input, result] = [box.querySelector("textarea"), box.querySelector("pre")];
    box.open = true;
    input.value = ${JSON.stringify(argument)};
    box.querySelector("button").click();
    await until(() => box.querySelector(".times").textContent !== "");
    return [result.textContent, result.className, box.querySelector(".times").textContent];
  })()`);

  const untouched = await page(`document.querySelector("#Arith\\\\.Multiply pre").hidden`);
  assert.equal(untouched, true, "a link opens a method and does not call it");
  const sample = await page(`document.querySelector("#Arith\\\\.Multiply textarea").value`);
  assert.deepEqual(JSON.parse(sample), { A: 1, B: 1 });
  const [text, look, times] = await called("Arith.Multiply", '{"A":6,"B":7}');
  assert.deepEqual([text, look], ["42", ""]);
  assert.match(times, /^HTTP 200, .* ms here; in the server, in ms: queue \d+\.\d{3}, handler \d+\.\d{3}$/);
  const [failure, failed] = await called("Arith.Divide", '{"A":1,"B":0}');
  assert.deepEqual([JSON.parse(failure), failed], [{ code: "invalid_argument", message: "divide by zero" }, "failed"]);
  assert.match((await called("Users.Get", "5"))[0], /"Name":"user-5 é世"/);
  const [users, usersLook, usersTimes] = await called("Users.Watch", "3");
  const ids = users.trim().split("\n").map((line) => JSON.parse(line).ID);
  assert.deepEqual([ids, usersLook, usersTimes.slice(0, 9)], [[1, 2, 3], "", "HTTP 200,"]);
  assert.equal((await called("Users.Watch", "-1"))[1], "failed", "an error before the first message");
  assert.match((await called("Users.Watch", "1000000"))[0], /"ID":2000,.*\(the page shows no more\)$/s);
  // A page reads the messages of a stream as they arrive.
  const third = await page(`(async () => {
    const reply = await fetch("Users/Watch", { method: "POST", headers: { "Content-Type": "application/json" },
      body: "1000000" });
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (text.split("\\n").length < 4) text += (await reader.read()).value;
    await reader.cancel();
    return JSON.parse(text.split("\\n")[2]).ID;
  })()`);
  assert.equal(third, 3);
  const markup = '"<img src=x onerror=document.title=1>"';
  assert.equal((await called("Echo.Echo", markup))[0], markup, "what came back is text");

  const shown = await page(`(() => {
    const filter = document.getElementById("filter");
    filter.value = "MULTI";
    filter.dispatchEvent(new Event("input"));
    const shown = [...document.querySelectorAll("details, h2")].filter((box) => box.offsetParent !== null);
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
    return shown.map((box) => box.id || box.textContent);
  })()`);
  assert.deepEqual(shown, ["Arith", "Arith.Multiply"]);
  assert.equal(await page(`document.title`), "Methods");
  if (screenshot) {
    await page(`document.getElementById("Users.Get").scrollIntoView(); scrollTo(0, 0)`);
    const { data } = await ask("Page.captureScreenshot", {}, sessionId);
    writeFileSync(screenshot, Buffer.from(data, "base64"));
  }
  await ask("Browser.close");
};

// Child processes of the browser may still write there for a moment after it has ended.
const removed = async (folder) => {
  for (let left = 50; ; left--) {
    try {
      return rmSync(folder, { recursive: true, force: true });
    } catch (error) {
      if (left === 0) throw error;
      await new Promise((again) => setTimeout(again, 100));
    }
  }
};

try {
  await run();
  console.log("the console page works");
} finally {
  chromium.kill();
  await ended;
  await removed(profile);
}
