// The console page in a real Chromium, over the DevTools protocol on a pipe: `node console.mjs URL [SCREENSHOT.png]`.
//
// Calls Arith.Multiply by the page's own button, reads the page's output, and checks errors, the filter and links.

import assert from "node:assert/strict";
import { withBrowser } from "../browser.mjs";

const [url, screenshot] = process.argv.slice(2);

await withBrowser(async (open) => {
  const tab = await open();
  const page = tab.run;
  await tab.look({ width: 1000, height: 1200 });
  await tab.goto(`${url}/#Arith.Multiply`);
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
    await tab.screenshot(screenshot);
  }
});
console.log("the console page works");
