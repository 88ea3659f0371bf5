"use strict";
// The script of all pages. A page is complete without it; it adds the events, the buttons, and the forms of the methods.

const element = (name, props = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined) continue;
    if (key in made && key !== "list") made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

// --- The part of a page that changes. ---

// Makes `old` equal to `fresh`, and keeps the nodes that have not changed: focus, selection and scroll positions stay.
const adapt = (old, fresh) => {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  // Each fresh child takes the next old one of its kind; those in between have gone.
  let next = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    let match = next;
    while (match && match.nodeName !== node.nodeName) match = match.nextSibling;
    if (!match) { old.insertBefore(node, next); continue; }
    while (next !== match) { const gone = next; next = next.nextSibling; gone.remove(); }
    next = match.nextSibling;
    adapt(match, node);
  }
  while (next) { const gone = next; next = next.nextSibling; gone.remove(); }
};

const region = document.getElementById("region");
const toggle = document.getElementById("live");
let source;

let kept;
const show = text => {
  // A button must not move away below the pointer: the change waits. The server does not send it again.
  clearTimeout(kept);
  if (region.querySelector("form[data-action] button:is(:hover, :focus-visible, :disabled)")) {
    kept = setTimeout(() => show(text), 300);
    return;
  }
  const fresh = new DOMParser().parseFromString(text, "text/html").body;
  const target = element("div", { id: "region" });
  target.append(...fresh.childNodes);
  adapt(region, target);
};
const listen = () => {
  source = new EventSource(document.body.dataset.events);
  source.addEventListener("region", event => { toggle.classList.remove("lost"); show(event.data); });
  source.addEventListener("failed", event => { region.replaceChildren(element("p", { className: "note bad", textContent: event.data })); });
  source.onerror = () => toggle.classList.add("lost");
};
const pressed = isLive => {
  toggle.setAttribute("aria-pressed", String(isLive));
  toggle.textContent = isLive ? "Live" : "Paused";
};
if (document.body.dataset.events) {
  toggle.hidden = false;
  toggle.onclick = () => {
    const isLive = toggle.getAttribute("aria-pressed") !== "true";
    pressed(isLive);
    if (isLive) listen(); else source.close();
  };
  listen();
  // A page in the background has no stream.
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (!document.hidden && toggle.getAttribute("aria-pressed") === "true") listen();
  });
}

// The buttons of a table.
region.addEventListener("submit", async event => {
  const form = event.target.closest("form[data-action]");
  if (!form) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const reply = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    button.textContent = (await reply.text()).trim();
  } catch (error) {
    button.textContent = String(error);
  }
  setTimeout(() => { button.disabled = false; button.blur(); }, 1500);
});
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// --- Values: a form for a schema, and back. ---

const typeOf = schema => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return `${typeOf(schema.anyOf[0])}, optional`;
  if (schema.oneOf) return "one of";
  if (schema.type === "array") return schema.prefixItems ? "tuple" : `list of ${typeOf(schema.items ?? {})}`;
  if (schema.type === "object" && schema.additionalProperties) return "map";
  return schema.contentEncoding ?? schema.format ?? schema.type ?? "any";
};

// A JSON text of the schema's shape, for a person to change.
const sample = (schema, all, depth = 0) => {
  if (schema.$ref) return depth > 4 ? null : sample(all[schema.$ref.split("/").pop()], all, depth + 1);
  if (schema.anyOf) return null;
  if (schema.oneOf) return sample(schema.oneOf[0], all, depth + 1);
  if ("const" in schema) return schema.const;
  switch (schema.type) {
    case "object": return Object.fromEntries(
      Object.entries(schema.properties ?? {}).map(([name, inner]) => [name, sample(inner, all, depth + 1)]));
    case "array": return (schema.prefixItems ?? []).map(inner => sample(inner, all, depth + 1));
    case "integer": case "number": return 1;
    case "string": return "";
    case "boolean": return false;
    default: return null;
  }
};

let labels = 0;
// An input with its name: `{ node, json() }`, where `json` returns the text of its value.
const labelled = (name, type, input, json) => {
  const id = `f${++labels}`;
  input.id = id;
  const label = element("label", { htmlFor: id }, name, element("small", { textContent: type }));
  return { node: element("div", { className: "field" }, label, input), json };
};
const group = (name, type, ...children) => element("div", { className: "field", role: "group", "aria-label": name },
  element("div", { className: "name" }, name, element("small", { textContent: type })), element("div", { className: "nested" }, ...children));

const jsonField = (name, schema, all) => {
  const input = element("textarea", { rows: 2, spellcheck: false, value: JSON.stringify(sample(schema, all)) });
  return labelled(name, `${typeOf(schema)}, as JSON`, input, () => input.value.trim() || "null");
};

const field = (name, schema, all, depth = 0) => {
  if (schema.$ref && depth < 6) {
    const inner = all[schema.$ref.split("/").pop()];
    return field(name, { ...inner, title: typeOf(schema) }, all, depth);
  }
  const type = schema.title ?? typeOf(schema);
  if (schema.anyOf && depth < 6) {
    const inner = field("value", schema.anyOf[0], all, depth + 1);
    const box = element("input", { type: "checkbox", ariaLabel: `${name}: given` });
    inner.node.hidden = true;
    box.onchange = () => { inner.node.hidden = !box.checked; };
    return { node: group(name, type, element("label", {}, box, " given"), inner.node), json: () => box.checked ? inner.json() : "null" };
  }
  if (schema.oneOf?.every(one => "const" in one)) {
    const input = element("select", {}, ...schema.oneOf.map(one => element("option", { textContent: one.const })));
    return labelled(name, type, input, () => JSON.stringify(input.value));
  }
  switch (schema.type) {
    case "integer": case "number": {
      const pattern = schema.type === "integer" ? "-?[0-9]+" : "-?[0-9]+(\\.[0-9]+)?([eE][+\\-]?[0-9]+)?";
      const input = element("input", { inputMode: "decimal", pattern, required: true, value: "1", autocomplete: "off" });
      // As text, so that large numbers keep their digits.
      return labelled(name, type, input, () => input.value.trim());
    }
    case "string": {
      const input = element("input", { autocomplete: "off", spellcheck: false });
      return labelled(name, schema.contentEncoding ? `bytes, ${type}` : type, input, () => JSON.stringify(input.value));
    }
    case "boolean": {
      const input = element("input", { type: "checkbox" });
      return labelled(name, type, input, () => String(input.checked));
    }
    case "null": return { node: element("p", { className: "times", textContent: "It takes no argument." }), json: () => "null" };
    case "object": {
      if (!schema.properties || depth >= 6) break;
      const parts = Object.entries(schema.properties).map(([key, inner]) => [key, field(key, inner, all, depth + 1)]);
      const json = () => `{${parts.map(([key, part]) => `${JSON.stringify(key)}:${part.json()}`).join(",")}}`;
      const nodes = parts.map(([, part]) => part.node);
      return { node: depth === 0 || name === "" ? element("div", { className: "fields" }, ...nodes) : group(name, type, ...nodes), json };
    }
    case "array": {
      if (!schema.items || depth >= 6) break;
      const items = [];
      const add = element("button", { type: "button", className: "small", textContent: "Add", ariaLabel: `Add to ${name}` });
      const box = group(name, type, add);
      add.onclick = () => {
        const item = field(`${items.length + 1}`, schema.items, all, depth + 1);
        const remove = element("button", { type: "button", className: "small", textContent: "Remove", ariaLabel: `Remove ${items.length + 1}` });
        const line = element("div", { className: "item" }, item.node, remove);
        items.push(item);
        remove.onclick = () => { items.splice(items.indexOf(item), 1); line.remove(); };
        add.before(line);
        item.node.querySelector("input, select, textarea")?.focus();
      };
      return { node: box, json: () => `[${items.map(item => item.json()).join(",")}]` };
    }
  }
  return jsonField(name, { ...schema, title: undefined }, all);
};

// JSON text with line breaks. Numbers stay as they are written, so they keep all their digits.
const pretty = text => {
  let [out, depth, quoted] = ["", 0, false];
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (quoted) {
      out += letter;
      if (letter === "\\") out += text[++at]; else if (letter === '"') quoted = false;
      continue;
    }
    const next = text.slice(at + 1).match(/^\s*([\]}])/);
    switch (letter) {
      case '"': quoted = true; out += letter; break;
      case "{": case "[":
        if (next) { out += letter + next[1]; at += next[0].length; } else out += letter + "\n" + "  ".repeat(++depth);
        break;
      case "}": case "]": out += "\n" + "  ".repeat(--depth) + letter; break;
      case ",": out += ",\n" + "  ".repeat(depth); break;
      case ":": out += ": "; break;
      case " ": case "\n": case "\r": case "\t": break;
      default: out += letter;
    }
  }
  return out;
};

// --- Methods. ---

// A stream may have no end: the page shows this many characters of it.
const SHOWN_MAX = 1_000_000;
// The calls of a method that are kept, in this browser.
const HISTORY_MAX = 20;

const shell = text => `'${text.replaceAll("'", "'\\''")}'`;
const snippets = (data, method, order) => {
  const argument = order.arguments[0] ?? "null";
  const [service, name] = [method.name.slice(0, method.name.lastIndexOf(".")), method.name.slice(method.name.lastIndexOf(".") + 1)];
  const headers = order.metadata.map(([key, value]) => ` \\\n  -H ${shell(`${key}: ${value}`)}`).join("");
  const made = {};
  if (data.http_address && !method.shape.startsWith("client") && method.shape !== "bidirectional") {
    made.curl = `curl -d ${shell(argument)} -H 'Content-Type: application/json'${headers} \\\n  http://${data.http_address}/${service}/${name}`;
  }
  const address = data.native_address || "127.0.0.1:6550";
  const metadata = order.metadata.map(([key, value]) => `--metadata ${shell(`${key}=${value}`)} `).join("");
  made.coreloop = `coreloop call ${metadata}${address} ${method.name} ${shell(order.arguments.join("\n"))}`;
  if (method.codecs.includes("gob") && method.shape === "unary") {
    made.Go = `client, err := rpc.Dial("tcp", ${JSON.stringify(address)})\nif err != nil {\n\tlog.Fatal(err)\n}\n` +
      `// The types are ${method.signature}\nvar reply Reply\nerr = client.Call(${JSON.stringify(method.name)}, ` +
      `Args{/* ${argument.replaceAll("*/", "* /")} */}, &reply)`;
  }
  const [before, after] = argument.includes('"#') ? ["r###\"", "\"###"] : ["r#\"", "\"#"];
  if (method.shape === "unary") {
    const options = order.metadata.map(([key, value]) => `\n    .with_metadata(${JSON.stringify(key)}, ${JSON.stringify(value)}.as_bytes())?`).join("");
    made.Rust = `let client = coreloop::client::Client::connect(${JSON.stringify(address)})?${options};\n` +
      `let reply: String = client.call_json(${JSON.stringify(method.name)}, ${before}${argument}${after})?;`;
  }
  return made;
};

const history = {
  key: name => `coreloop-console-calls:${name}`,
  read: name => { try { return JSON.parse(localStorage.getItem(history.key(name))) ?? []; } catch { return []; } },
  add: (name, call) => {
    const calls = [call, ...history.read(name).filter(old => JSON.stringify(old.order.arguments) !== JSON.stringify(call.order.arguments))];
    try { localStorage.setItem(history.key(name), JSON.stringify(calls.slice(0, HISTORY_MAX))); } catch { /* It is full. */ }
  },
};

const methodView = (data, method) => {
  const all = data.schemas;
  const streamsIn = method.shape === "client_stream" || method.shape === "bidirectional";
  const form = element("form", { className: "method", noValidate: false, ariaLabel: method.name });
  let fields = field("argument", method.argument, all);
  const raw = element("textarea", { rows: 6, spellcheck: false, ariaLabel: `Argument of ${method.name}, as JSON` });
  const fill = text => { raw.value = text; raw.rows = Math.min(Math.max(text.split("\n").length, 4), 18); };
  const box = element("div", {}, fields.node);
  const tab = text => element("button", { type: "button", className: "quiet", textContent: text });
  const [asForm, asJson] = [tab("Form"), tab("JSON")];
  let isRaw = streamsIn;
  const choose = raws => {
    if (raws && !isRaw) fill(pretty(fields.json()));
    isRaw = raws;
    asForm.setAttribute("aria-pressed", String(!isRaw));
    asJson.setAttribute("aria-pressed", String(isRaw));
    box.replaceChildren(isRaw ? raw : fields.node);
  };
  asForm.onclick = () => choose(false);
  asJson.onclick = () => choose(true);
  if (streamsIn) fill(JSON.stringify(sample(method.argument, all)));
  choose(isRaw);

  const headers = element("textarea", { rows: 2, spellcheck: false, placeholder: "name: value" });
  const timeout = element("input", { inputMode: "numeric", pattern: "[0-9]*", placeholder: "60000" });
  const run = element("button", { textContent: "Call" });
  const stop = element("button", { type: "button", className: "quiet", textContent: "Stop", hidden: true });
  const output = element("pre", { tabIndex: 0, ariaLabel: "Reply" });
  const times = element("p", { className: "times", role: "status" });
  const reply = element("div", { className: "reply", hidden: true }, element("h3", { className: "visually-hidden", textContent: "Reply" }), output, times);
  const copies = element("div", { className: "copy" });
  const past = element("ol");
  const pastBox = element("details", { className: "history" }, element("summary", { textContent: "Earlier calls" }), past);

  const order = () => ({
    method: method.name,
    arguments: !isRaw ? [fields.json()] : streamsIn ? raw.value.split("\n").filter(line => line.trim()) : [raw.value.trim() || "null"],
    metadata: headers.value.split("\n").filter(line => line.trim()).map(line => {
      const at = line.indexOf(":");
      return at < 0 ? [line.trim(), ""] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    }),
    timeout_ms: Number(timeout.value) || 0,
  });
  const copy = element("div", { className: "tabs" }, element("span", { className: "times", textContent: "Copy as" }));
  for (const name of ["curl", "coreloop", "Go", "Rust"]) {
    if (!(name in snippets(data, method, { arguments: ["null"], metadata: [] }))) continue;
    const button = element("button", { type: "button", className: "small", textContent: name });
    button.onclick = async () => {
      const text = snippets(data, method, order())[name];
      copies.replaceChildren(element("pre", { textContent: text, tabIndex: 0, ariaLabel: `${name} code` }));
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = `${name}: copied`;
        setTimeout(() => { button.textContent = name; }, 1500);
      } catch { /* The text is there to be selected. */ }
    };
    copy.append(button);
  }

  const showPast = () => {
    const calls = history.read(method.name);
    pastBox.hidden = calls.length === 0;
    past.replaceChildren(...calls.map(({ order: old, code, at }) => {
      const button = element("button", { type: "button", className: "small" }, element("code", { textContent: old.arguments.join(" ") }),
        element("span", { className: `tag ${code === "ok" ? "good" : "bad"}`, textContent: code }),
        element("span", { textContent: new Date(at).toLocaleTimeString() }));
      button.onclick = () => {
        choose(true);
        fill(streamsIn ? old.arguments.join("\n") : pretty(old.arguments[0]));
        headers.value = old.metadata.map(pair => pair.join(": ")).join("\n");
      };
      return element("li", {}, button);
    }));
  };

  let running;
  stop.onclick = () => running?.abort();
  const finish = (order, end, isFailed) => {
    output.classList.toggle("failed", isFailed);
    if (isFailed) output.textContent += (output.textContent ? "\n" : "") + `${end.code}: ${end.text}`;
    if (!output.textContent) output.textContent = "(nothing)";
    const server = end.handler_us == null ? "" : `; in the server: queue ${(end.queue_us / 1000).toFixed(3)} ms, handler ${(end.handler_us / 1000).toFixed(3)} ms`;
    const entries = [["header", end.headers], ["trailer", end.trailers]].flatMap(([kind, list]) => (list ?? []).map(([key, value]) => `\n${kind} ${key}: ${value}`));
    times.textContent = `${end.code}, ${(end.total_us / 1000).toFixed(3)} ms${server}${entries.join("")}`;
    history.add(method.name, { order, code: end.code, at: Date.now() });
    showPast();
  };
  form.onsubmit = async event => {
    event.preventDefault();
    running?.abort();
    const { signal } = running = new AbortController();
    const asked = order();
    reply.hidden = false;
    output.textContent = "";
    output.classList.remove("failed");
    times.textContent = "…";
    run.disabled = true;
    stop.hidden = false;
    try {
      const answer = await fetch("/call", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked), signal });
      if (!answer.ok) {
        const text = await answer.text();
        let fault = { code: `HTTP ${answer.status}`, message: text };
        try { fault = JSON.parse(text); } catch { /* It is text. */ }
        return finish(asked, { code: fault.code, text: fault.message ?? "", total_us: 0 }, true);
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let [rest, messages, end] = ["", 0, undefined];
      while (!end) {
        const { done, value } = await reader.read();
        if (done) throw new Error("the answer ended without a status");
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines.map(text => JSON.parse(text))) {
          if (line.end) { end = line.end; continue; }
          if (output.textContent.length > SHOWN_MAX) {
            output.append("\n… (the page shows no more)");
            running.abort();
          }
          output.append((messages++ ? "\n" : "") + (method.shape === "unary" || method.shape === "client_stream" ? pretty(line.message) : line.message));
        }
      }
      finish(asked, end, end.code !== "ok");
    } catch (error) {
      if (!signal.aborted) finish(asked, { code: "failed", text: String(error), total_us: 0 }, true);
      else times.textContent = "Stopped.";
    } finally {
      run.disabled = false;
      stop.hidden = true;
    }
  };
  form.onkeydown = event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(run); };

  const about = [method.runs, method.shape.replace("_", " "), ...(method.idempotent ? ["idempotent"] : [])];
  form.append(
    element("h2", { textContent: method.name }),
    element("code", { className: "signature", textContent: method.signature }),
    element("p", { className: "docs", textContent: method.docs || "It has no documentation." }),
    element("p", {}, ...about.map(text => element("span", { className: "tag", textContent: text })).flatMap(tag => [tag, " "])),
  );
  if (!method.takes_json) {
    form.append(element("p", { className: "note warn", textContent: `It takes ${method.codecs.join(", ")}, not JSON: it cannot be called from here.` }));
    return form;
  }
  form.append(
    streamsIn ? element("p", { className: "times", textContent: "The argument is a stream: one JSON value on each line." })
      : element("div", { className: "tabs", role: "group", ariaLabel: "Form of the argument" }, asForm, asJson),
    box,
    element("div", { className: "options" }, element("label", {}, "Headers, one on each line", headers), element("label", {}, "Time limit in ms", timeout)),
    element("div", { className: "row" }, run, stop, copy), copies, reply, pastBox,
  );
  showPast();
  return form;
};

const methodsWidget = async place => {
  // The table is for those without the script.
  document.querySelector("#region > section.table")?.remove();
  const data = await (await fetch("/methods?format=json")).json();
  const search = element("input", { type: "search", placeholder: "Filter", ariaLabel: "Filter the methods" });
  const list = element("div", { className: "list", role: "navigation", ariaLabel: "Methods" }, search);
  const panel = element("div");
  const links = [];
  let service;
  for (const method of [...data.methods].sort((one, other) => one.service.localeCompare(other.service))) {
    if (method.service !== service) list.append(element("h2", { textContent: service = method.service }));
    const link = element("a", { href: `#${encodeURIComponent(method.name)}`, textContent: method.name.slice(method.name.lastIndexOf(".") + 1), title: method.name });
    link.dataset.search = `${method.name} ${method.docs}`.toLowerCase();
    links.push([method, link]);
    list.append(link);
  }
  search.oninput = () => {
    const wanted = search.value.toLowerCase();
    for (const [, link] of links) link.hidden = !link.dataset.search.includes(wanted);
    for (const heading of list.querySelectorAll("h2")) {
      let next = heading.nextElementSibling;
      let isShown = false;
      for (; next && next.localName === "a"; next = next.nextElementSibling) isShown ||= !next.hidden;
      heading.hidden = !isShown;
    }
  };
  // `#Service.Method` opens that method. It does not call it: a link must not be able to.
  const open = () => {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { /* A link with a lone percent sign opens nothing. */ }
    const [method] = links.find(([method]) => method.name === name) ?? links[0] ?? [];
    for (const [known, link] of links) {
      if (known === method) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
    panel.replaceChildren(method ? methodView(data, method) : element("p", { className: "empty", textContent: "The server has no methods." }));
  };
  addEventListener("hashchange", open);
  place.replaceChildren(element("div", { className: "methods" }, list, panel));
  open();
};

// --- Profiles. ---

const SVG = "http://www.w3.org/2000/svg";
const share = value => {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, width] of [["track", 1], ["plain", value]]) {
    const rect = document.createElementNS(SVG, "rect");
    for (const [name, text] of [["class", kind], ["width", `${(width * 100).toFixed(2)}%`], ["height", "100%"], ["rx", "2"]]) rect.setAttribute(name, text);
    svg.append(rect);
  }
  return svg;
};
// A node of a call tree, `{ name, value, children }`; `all` is the value of the root.
const node = (tree, all, depth) => {
  const part = tree.value / (all || 1);
  const line = [element("b", { textContent: `${(part * 100).toFixed(1)} %` }), share(part), element("code", { textContent: tree.name })];
  const children = (tree.children ?? []).filter(child => child.value / (all || 1) >= 0.001).sort((one, other) => other.value - one.value);
  if (children.length === 0) return element("li", {}, element("div", { className: "leaf" }, ...line));
  const list = element("ul");
  const details = element("details", {}, element("summary", {}, ...line), list);
  // The children of a closed node are made when it opens: a tree may be large.
  const fill = () => { if (!list.hasChildNodes()) list.append(...children.map(child => node(child, all, depth + 1))); };
  details.addEventListener("toggle", () => details.open && fill());
  if (depth < 3 || part > 0.25 && depth < 24) { fill(); details.open = true; }
  return element("li", {}, details);
};
const profilesWidget = place => {
  const seconds = element("input", { name: "seconds", value: "5", inputMode: "numeric", pattern: "[0-9]+", required: true, size: 4 });
  const start = element("button", { textContent: "Start a CPU profile" });
  const status = element("p", { className: "times", role: "status" });
  const result = element("div");
  const form = element("form", { className: "filter" }, element("label", {}, "Seconds", seconds), start);
  form.onsubmit = async event => {
    event.preventDefault();
    start.disabled = true;
    status.textContent = `Sampling for ${seconds.value} s …`;
    result.replaceChildren();
    try {
      const reply = await fetch(`/debug/pprof/profile?seconds=${encodeURIComponent(seconds.value)}&format=tree`);
      const text = await reply.text();
      if (!reply.ok) {
        let message = text;
        try { message = JSON.parse(text).message; } catch { /* It is text. */ }
        throw new Error(reply.status === 404 ? "this build has no CPU profiler" : message);
      }
      const tree = JSON.parse(text);
      const root = tree.root ?? tree;
      status.textContent = root.value ? "The share of the samples by call, the largest first." : "No samples: the program used no CPU.";
      result.replaceChildren(element("ul", { className: "tree" }, node(root, root.value, 0)));
    } catch (error) {
      status.textContent = String(error.message ?? error);
    } finally {
      start.disabled = false;
    }
  };
  place.replaceChildren(form, status, result);
};

const widgets = { methods: methodsWidget, profiles: profilesWidget };
for (const place of document.querySelectorAll("[data-widget]")) {
  Promise.resolve(widgets[place.dataset.widget](place)).catch(error => {
    place.replaceChildren(element("p", { className: "note bad", textContent: String(error) }));
  });
}
