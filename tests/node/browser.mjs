// A real Chromium, over the DevTools protocol on a pipe.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

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

// Starts a browser, passes it to `run`, and ends it. `run` receives `open()`, which returns a tab.
export const withBrowser = async (run) => {
  const profile = mkdtempSync(join(tmpdir(), "chromium-"));
  const flags = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", `--user-data-dir=${profile}`, "--remote-debugging-pipe",
    "--window-size=1280,1000", "about:blank",
  ];
  const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"];
  const chromium = spawn(process.env.CHROMIUM ?? "chromium", flags, { stdio });
  const ended = new Promise((resolve) => chromium.on("exit", resolve));
  const waiting = new Map();
  const listeners = [];
  let [last, rest] = [0, ""];
  chromium.stdio[4].setEncoding("utf8");
  chromium.stdio[4].on("data", (data) => {
    const messages = (rest + data).split("\0");
    rest = messages.pop();
    for (const message of messages.map((text) => JSON.parse(text))) {
      if (message.method) listeners.forEach((listener) => listener(message));
      const { resolve, reject } = waiting.get(message.id) ?? {};
      waiting.delete(message.id);
      if (message.error) reject?.(new Error(message.error.message));
      else resolve?.(message.result);
    }
  });
  const ask = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    chromium.stdio[3].write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
  });

  // A tab. `faults` collects errors of the console, exceptions, and requests that failed or left the listener.
  const open = async () => {
    const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await ask("Target.attachToTarget", { targetId, flatten: true });
    const here = (method, params) => ask(method, params, sessionId);
    const tab = { faults: [], loaded: new Set(), ask: here };
    listeners.push((message) => {
      if (message.sessionId !== sessionId) return;
      const { method, params } = message;
      if (method === "Runtime.exceptionThrown") tab.faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === "Runtime.consoleAPICalled" && params.type === "error") tab.faults.push(JSON.stringify(params.args));
      if (method === "Log.entryAdded" && params.entry.level === "error") tab.faults.push(`${params.entry.text} ${params.entry.url ?? ""}`);
      if (method === "Page.lifecycleEvent" && params.name === "load") {
        tab.loaded.add(params.loaderId);
        tab.onLoaded?.();
      }
    });
    // Waits in the page for its changes. There is no timeout here: the program that started this script has one.
    await here("Page.addScriptToEvaluateOnNewDocument", { source: `const until = (holds) => new Promise((resolve) => {
      const look = () => holds() ? resolve(true) : setTimeout(look, 10);
      look();
    });` });
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await here(`${domain}.enable`);
    await here("Page.setLifecycleEventsEnabled", { enabled: true });
    tab.goto = async (url) => {
      // By its id: the event of an earlier document may come late.
      const { loaderId } = await here("Page.navigate", { url });
      await new Promise((resolve) => {
        tab.onLoaded = () => { if (loaderId === undefined || tab.loaded.has(loaderId)) resolve(); };
        tab.onLoaded();
      });
    };
    // Runs an expression that opens another document, and waits for that document: a promise of this one would be rejected.
    tab.follow = async (expression) => {
      const before = tab.loaded.size;
      await tab.run(expression);
      await new Promise((resolve) => {
        tab.onLoaded = () => { if (tab.loaded.size > before) resolve(); };
        tab.onLoaded();
      });
    };
    // The value of an expression; waits if it is a promise.
    tab.run = async (expression) => {
      const params = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
      const { result, exceptionDetails } = await here("Runtime.evaluate", params);
      assert.equal(exceptionDetails, undefined, exceptionDetails?.exception?.description);
      return result.value;
    };
    tab.look = async ({ width = 1280, height = 900, dark = false }) => {
      await here("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
      await here("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
    };
    tab.screenshot = async (file) => {
      const { data } = await here("Page.captureScreenshot", { format: "png", optimizeForSpeed: false });
      writeFileSync(file, Buffer.from(data, "base64"));
    };
    return tab;
  };
  try {
    await run(open);
    await ask("Browser.close");
  } finally {
    chromium.kill();
    await ended;
    await removed(profile);
  }
};
