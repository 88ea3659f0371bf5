// The console of the admin listener in a real Chromium: `node admin.mjs URL [FOLDER]`. With a folder, it writes a picture of
// each page there, in four sizes and colours.
//
// The server has a call of Slow.Sleep in flight, which it cancels, and traces with markup in their texts.

import assert from "node:assert/strict";
import { join } from "node:path";

import { withBrowser } from "../browser.mjs";

const [url, folder] = process.argv.slice(2);
const PAGES = ["/", "/methods", "/calls", "/traces", "/connections", "/reactors", "/queues", "/endpoints", "/config", "/profiles"];

await withBrowser(async (open) => {
  const tab = await open();

  // Every page, narrow and wide, light and dark: no errors, names for all controls, nothing wider than the window.
  for (const path of PAGES) {
    await tab.goto(url + path);
    if (path === "/methods") await tab.run(`until(() => document.querySelector(".method"))`);
    for (const [width, dark] of [[1280, false], [1280, true], [390, false], [390, true]]) {
      await tab.look({ width, dark });
      const fits = await tab.run(`[document.documentElement.scrollWidth, innerWidth]`);
      assert.ok(fits[0] <= fits[1], `${path} at ${width}: ${fits}`);
      const background = await tab.run(`getComputedStyle(document.documentElement).backgroundColor`);
      const light = background.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
      assert.equal(light < 200, dark, `${path}: ${background}`);
      if (folder) await tab.screenshot(join(folder, `${path.slice(1) || "overview"}-${width}-${dark ? "dark" : "light"}.png`));
    }
    await tab.look({});
    const { nodes } = await tab.ask("Accessibility.getFullAXTree");
    const controls = nodes.filter((node) => !node.ignored && ["button", "link", "textbox", "combobox", "checkbox", "searchbox", "image"].includes(node.role?.value));
    const nameless = controls.filter((node) => !node.name?.value?.trim()).map((node) => JSON.stringify(node.role));
    assert.deepEqual(nameless, [], `${path}: controls without a name`);
    assert.ok(controls.length >= PAGES.length, `${path}: ${controls.length} controls`);
    assert.equal(await tab.run(`document.querySelectorAll("h1").length`), 1);
    assert.equal(await tab.run(`document.querySelector("nav [aria-current]").getAttribute("href")`), path);
  }
  assert.deepEqual(tab.faults, []);

  // By keyboard: the first stop skips the navigation.
  await tab.goto(`${url}/calls`);
  await tab.ask("Input.dispatchKeyEvent", { type: "keyDown", key: "Tab", code: "Tab", windowsVirtualKeyCode: 9 });
  assert.equal(await tab.run(`document.activeElement.className`), "skip");

  // Live: the numbers change without a reload, and a pause stops that.
  await tab.goto(`${url}/`);
  // A server that has just started has no history.
  await tab.run(`until(() => document.querySelector(".chart svg") !== null)`);
  await tab.run(`window.before = document.getElementById("region").innerHTML; window.chartBefore = document.querySelector(".chart svg")`);
  await tab.run(`until(() => document.getElementById("region").innerHTML !== before)`);
  assert.equal(await tab.run(`document.querySelector(".chart svg") === window.chartBefore`), true, "nodes are kept");
  await tab.run(`document.getElementById("live").click()`);
  assert.equal(await tab.run(`document.getElementById("live").getAttribute("aria-pressed")`), "false");
  await tab.run(`document.getElementById("live").click()`);
  assert.equal(await tab.run(`document.getElementById("live").textContent`), "Live");

  // Methods: a form from the type, the reply, the history, streams, failures, markup.
  await tab.goto(`${url}/methods#Arith.Multiply`);
  await tab.run(`until(() => document.querySelector(".method h2")?.textContent === "Arith.Multiply")`);
  const call = (change) => tab.run(`(async () => {
    const form = document.querySelector(".method");
    ${change}
    form.requestSubmit();
    const times = form.querySelector(".reply .times");
    await until(() => times.textContent !== "…" && !form.querySelector(".row button").disabled);
    return [form.querySelector(".reply pre").textContent, form.querySelector(".reply pre").className, times.textContent];
  })()`);
  const labels = await tab.run(`[...document.querySelectorAll(".method .fields label")].map((label) => label.textContent)`);
  assert.deepEqual(labels, ["Aint64", "Bint64"]);
  const untouched = await tab.run(`document.querySelector(".reply").hidden`);
  assert.equal(untouched, true, "a link opens a method and does not call it");
  const [text, look, times] = await call(`[...form.querySelectorAll(".fields input")].forEach((input, at) => { input.value = ["6", "7"][at]; });`);
  assert.deepEqual([text, look], ["42", ""]);
  assert.match(times, /^ok, [\d.]+ ms; in the server: queue \d+\.\d{3} ms, handler \d+\.\d{3} ms/);
  const large = await call(`[...form.querySelectorAll(".fields input")].forEach((input, at) => { input.value = ["9007199254740993", "1"][at]; });`);
  assert.equal(large[0], "9007199254740993", "numbers keep their digits");
  assert.equal(await tab.run(`document.querySelectorAll(".history li").length`), 2);
  const go = (name) => tab.run(`(async () => {
    location.hash = "#" + ${JSON.stringify(name)};
    await until(() => document.querySelector(".method h2")?.textContent === ${JSON.stringify(name)});
  })()`);
  const json = (value) => `[...form.querySelectorAll(".tabs button")].find((button) => button.textContent === "JSON").click();
    form.querySelector("textarea").value = ${JSON.stringify(value)};`;
  await go("Arith.Divide");
  const failed = await call(json('{"A":1,"B":0}'));
  assert.deepEqual(failed.slice(0, 2), ["invalid_argument: divide by zero", "failed"]);
  const refused = await call(json("{"));
  assert.match(refused[0], /the argument is not JSON/);
  await go("Echo.Echo");
  const markup = '"<img src=x onerror=document.title=1>"';
  assert.equal((await call(json(markup)))[0], markup, "what came back is text");
  await go("Users.Watch");
  const watched = await call(json("3"));
  assert.deepEqual(watched[0].trim().split("\n").map((line) => JSON.parse(line).ID), [1, 2, 3]);
  await tab.run(`[...document.querySelectorAll(".copy-none, .tabs button")].find((button) => button.textContent === "curl").click()`);
  assert.match(await tab.run(`document.querySelector(".copy pre").textContent`), /^curl -d '3' .*\/Users\/Watch$/s);
  // Headers reach the server: it returns the ones that it does not know as they are, or not at all.
  await go("Users.Get");
  const got = await call(`form.querySelector(".options textarea").value = "x-name: <b>\\nempty";${json("5")}`);
  assert.match(got[0], /"Name": "user-5 é世"/);
  const shown = await tab.run(`(() => {
    const filter = document.querySelector(".list input");
    filter.value = "MULTI";
    filter.dispatchEvent(new Event("input"));
    return [...document.querySelectorAll(".list a, .list h2")].filter((box) => box.offsetParent !== null).map((box) => box.textContent);
  })()`);
  assert.deepEqual(shown, ["Arith", "Multiply"]);

  // Calls: a filter, and a call that is cancelled by its button.
  await tab.goto(`${url}/calls?method=Slow.Sleep`);
  assert.equal(await tab.run(`document.querySelector("[name=method]").value`), "Slow.Sleep");
  const button = `[...document.querySelectorAll("form[data-action] button")].find((button) => button.getAttribute("aria-label").startsWith("Cancel Slow.Sleep of "))`;
  assert.equal(await tab.run(`Boolean(${button})`), true);
  await tab.run(`${button}.click()`);
  await tab.run(`until(() => document.querySelector(".empty")?.textContent === "No call is in flight.")`);

  // Traces: markup in names stays text, and a trace opens.
  await tab.goto(`${url}/traces?method=Slow.Span`);
  await tab.follow(`document.querySelector("td a").click()`);
  assert.equal(await tab.run(`document.querySelector("h1").textContent`), "Trace");
  assert.ok((await tab.run(`document.body.textContent`)).includes("<img src=x onerror=document.title=1>"));
  assert.equal(await tab.run(`document.querySelectorAll("main img").length`), 0);
  assert.match(await tab.run(`document.title`), /^Trace · /);

  assert.deepEqual(tab.faults.filter((fault) => !fault.includes("400 (Bad Request)")), []);

  // A page of another origin can neither cancel nor read.
  const other = await open();
  await other.goto("data:text/html,<title>other</title>");
  const outcome = await other.run(`fetch(${JSON.stringify(`${url}/calls/cancel`)}, { method: "POST", mode: "no-cors",
    body: new URLSearchParams({ reactor: "0", connection: "0", slot: "0", id: "0" }) }).then((reply) => reply.type, String)`);
  assert.ok(outcome === "opaque" || outcome.includes("TypeError"), outcome);
  const read = await other.run(`fetch(${JSON.stringify(`${url}/calls?format=json`)}).then(() => "read", () => "refused")`);
  assert.equal(read, "refused");
});
console.log("the console of the admin listener works");
