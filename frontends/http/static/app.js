"use strict";
// The page of a VexFS node.  Everything that comes from the volume is set as text, never as markup.

const $ = (id) => document.getElementById(id);
const state = { token: sessionStorage.getItem("token") || "", node: null, socket: null, path: "/", cursor: "" };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const say = (text) => { $("message").textContent = text || ""; };

// Each view that is shown has a number: what was asked for an earlier one is not shown any more when it comes.
let shown = 0;
class Outdated extends Error {}
function current(number) { if (number !== shown) throw new Outdated(); }

async function ask(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers } };
  if (state.token) options.headers.Authorization = "Bearer " + state.token;
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const number = shown;
  const reply = await fetch(path, options).catch(() => { throw new Error("The node does not answer."); });
  current(number);
  if (reply.ok) return reply;
  let detail = reply.statusText;
  try { detail = (await reply.json()).detail; } catch { /* no problem+json: the status has to do */ }
  if (reply.status === 401) {
    const was = state.node;
    leave();
    if (was) admit();
  }
  throw new Error(detail);
}
async function json(...args) {
  const number = shown, found = await (await ask(...args)).json();
  current(number);
  return found;
}

// Paths are kept percent-encoded: names need not be UTF-8.
const encoded = (path) => path.split("/").map(encodeURIComponent).join("/");
const bytes = (base64) => [...atob(base64)].map((c) => "%" + c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
function decoded(path) {
  try { return decodeURIComponent(path); } catch { /* not UTF-8: what is, and U+FFFD */ }
  const parts = path.split(/((?:%[0-9a-f]{2})+)/i); // every other one is escaped
  const raw = (part) => Uint8Array.from(part.slice(1).split("%"), (hex) => parseInt(hex, 16));
  return parts.map((part, i) => (i % 2 ? new TextDecoder().decode(raw(part)) : part)).join("");
}

// A name as it is to be read: nothing in it is invisible, turns the rest around, or passes for the end of a line.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
function name(text) {
  const seen = text.replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
  return make("bdi", {}, seen.replace(/^ +| +$/g, (blanks) => "␣".repeat(blanks.length)));
}
const size = (n) => {
  let unit = 0;
  while (n >= 1024 && unit < 4) { n /= 1024; unit += 1; }
  return (unit ? n.toFixed(1) : n) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit];
};
const when = (ns) => new Date(ns / 1e6).toLocaleString();

// -- entering and leaving

async function enter() {
  const tried = state.token;
  try {
    state.node = await json("GET", "/v1/node");
  } catch (error) {
    admit();
    if (tried) say(error.message);
    return;
  }
  say("");
  $("entry").hidden = true;
  $("leave").hidden = !state.token;
  $("node").textContent = state.node.node_id + ", " + state.node.version;
  show();
}

// Ask for a token; the address stays, and with it what was looked at.
function admit() {
  $("entry").hidden = false;
  $("leave").hidden = true;
  for (const view of document.querySelectorAll("main > section")) view.hidden = true;
  $("token").focus();
}

function hang() {
  const socket = state.socket;
  state.socket = null;
  if (socket) socket.close();
}

function leave() {
  state.token = "";
  sessionStorage.removeItem("token");
  hang();
  state.node = null;
  for (const id of ["hits", "entries", "crumbs", "content", "facts", "list", "charts"]) $(id).replaceChildren();
  state.path = "/";
}

$("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  sessionStorage.setItem("token", state.token);
  $("token").value = "";
  enter();
});
$("leave").addEventListener("click", () => { leave(); enter(); });
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });

// -- views: the part of the address behind #

const views = { search: showSearch, browse: showBrowse, indexes: showIndexes, figures: showFigures };

function show() {
  if (!state.node) return;
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = name in views ? name : "search";
  for (const each of Object.keys(views)) $(each).hidden = each !== view;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.hash === "#" + view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  hang();
  say("");
  const number = shown += 1;
  const parts = rest.filter((part) => !/^((\.|%2e){1,2})?$/i.test(part));
  const path = "/" + parts.join("/").replace(/[?#]/g, encodeURIComponent);
  Promise.resolve().then(() => views[view](path)).catch((error) => tell(error, number));
}
function tell(error, number) { if (number === shown && !(error instanceof Outdated)) say(error.message); }
addEventListener("hashchange", show);

// -- search

const has = (feature) => state.node.features.includes(feature);

// The address holds the search, so that it can be kept, sent and gone back to: #search/?text=...&under=...
const FIELDS = { text: "", under: "/", mode: "hybrid", where: "" };

async function showSearch() {
  if (!has("search")) { say("This version of the node has no search."); return; }
  const asked = new URLSearchParams(location.hash.split("?")[1]);
  for (const [name, usual] of Object.entries(FIELDS)) $(name).value = asked.get(name) ?? usual;
  $("text").focus();
  $("hits").replaceChildren();
  if (asked.get("text")) await search();
  else await introduce();
}

async function introduce() {
  const found = has("index") ? await json("GET", "/v1/indexes") : [];
  const files = found.reduce((all, index) => all + index.files, 0);
  say(found.length ? `${files} files in ${found.map((index) => index.path).join(", ")} can be found.`
    : "There is no index yet: vexctl index create, or PUT /v1/indexes/PATH.");
}

// "year >= 2020, lang = en" as the API's filter.
function condition(text) {
  const names = { ">=": "$gte", "<=": "$lte", "!=": "$ne", ">": "$gt", "<": "$lt", "=": "$eq" };
  const found = {};
  for (const part of text.split(",").map((each) => each.trim()).filter(Boolean)) {
    const match = /^([^<>=!]+?)\s*(>=|<=|!=|>|<|=)\s*(.+)$/.exec(part);
    if (!match) throw new Error(`"${part}" is no condition; write as in: year >= 2020, lang = en`);
    let value = match[3];
    try { value = JSON.parse(value); } catch { /* a word without quotes is a string */ }
    found[match[1]] = { ...found[match[1]], [names[match[2]]]: value };
  }
  return Object.keys(found).length ? found : undefined;
}

function marked(text, words) {
  const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  if (!pattern) return [text];
  return text.split(new RegExp(`(${pattern})`, "giu")).map((part, i) => (i % 2 ? make("mark", {}, part) : part));
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = new URLSearchParams();
  for (const [name, usual] of Object.entries(FIELDS))
    if ($(name).value && $(name).value !== usual) asked.set(name, $(name).value);
  const hash = "#search/?" + asked;
  if (location.hash === hash) show();
  else location.hash = hash;
});

async function search() {
  const text = $("text").value;
  const body = { text, under: $("under").value || "/", mode: $("mode").value, k: 20, attributes: true };
  const where = condition($("where").value);
  if (where) body.where = where;
  say("Searching …");
  const answer = await json("POST", "/v1/search", body);
  const found = answer.hits, missing = answer.missing || [];
  say("");
  const words = text.split(/[^\p{L}\p{N}]+/u).filter((word) => word.length > 2);
  $("hits").replaceChildren(...found.map((hit) => row(hit, words)));
  if (!found.length) say("Nothing was found.");
  if (missing.length) say(missing.map((each) => `Not searched: ${each.path}: ${each.reason}`).join("; "));
}

function row(hit, words) {
  const tags = Object.entries(hit.attributes || {}).map(([name, value]) => `${name}: ${value}`).join("  ·  ");
  return make("li", {},
    make("span", { class: "score", title: "larger is better" }, hit.score.toFixed(3)),
    make("a", { href: "#browse" + encoded(hit.path) }, name(hit.path)),
    hit.text ? make("p", {}, ...marked(hit.text, words)) : null,
    tags ? make("div", { class: "tags" }, tags) : null);
}

// -- browse

// A directory, also behind a link.  Files have an ETag, listings none.
async function isDirectory(path, meta) {
  if (meta.kind !== "symlink") return meta.kind === "directory";
  try {
    return !(await ask("HEAD", "/v1/files" + path)).headers.get("ETag");
  } catch (error) {
    if (error instanceof Outdated) throw error;
    return false; // it leads nowhere, or to where the token is not for
  }
}

async function showBrowse(path) {
  const meta = path === "/" ? { kind: "directory" } : await json("GET", `/v1/files${path}?meta=true`);
  const file = (await isDirectory(path, meta)) ? "" : path;
  const directory = file ? path.slice(0, path.lastIndexOf("/")) || "/" : path;
  crumbs(directory);
  if (directory !== state.path || !$("entries").children.length || !file) {
    state.path = directory;
    state.cursor = "";
    $("entries").replaceChildren();
    await page();
  }
  for (const link of $("entries").querySelectorAll("a")) {
    if (link.dataset.path === path) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  $("preview").hidden = !file;
  if (file) await preview(path, meta);
}

function crumbs(path) {
  const parts = path.split("/").filter(Boolean);
  const links = [make("a", { href: "#browse/" }, "volume")];
  parts.forEach((part, i) => {
    links.push(" / ", make("a", { href: "#browse/" + parts.slice(0, i + 1).join("/") }, name(decoded(part))));
  });
  $("crumbs").replaceChildren(...links);
}

async function page() {
  const above = state.path === "/" ? "" : state.path;
  const found = await json("GET", `/v1/files${above}?limit=500&cursor=${encodeURIComponent(state.cursor)}`);
  for (const entry of found.entries) {
    const path = above + "/" + (entry.raw ? bytes(entry.raw) : encodeURIComponent(entry.name));
    const mark = entry.kind === "directory" ? "/" : entry.kind === "symlink" ? " →" : "";
    $("entries").append(make("tr", {},
      make("td", {}, make("a", { href: "#browse" + path, "data-path": path }, name(entry.name), mark)),
      make("td", { class: "number" }, entry.kind === "file" ? size(entry.size) : ""),
      make("td", { class: "when" }, when(entry.mtime_ns))));
  }
  if (!$("entries").children.length)
    $("entries").append(make("tr", {}, make("td", { colspan: 3, class: "quiet" }, "empty")));
  state.cursor = found.cursor || "";
  $("more").hidden = !state.cursor;
}
$("more").addEventListener("click", () => {
  const number = shown;
  $("more").disabled = true; // a second click would fetch the same page again
  page().catch((error) => tell(error, number)).finally(() => { $("more").disabled = false; });
});

async function preview(path, meta) {
  const number = shown;
  $("title").replaceChildren(name(decoded(path.slice(path.lastIndexOf("/") + 1))));
  const facts = { size: size(meta.size), changed: when(meta.mtime_ns), mode: meta.mode.toString(8),
    ...(meta.target ? { "leads to": name(meta.target) } : {}), ...meta.attributes };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([k, v]) =>
    [make("dt", {}, k), make("dd", {}, v instanceof Node ? v : String(v))]));
  const quiet = (text) => $("content").replaceChildren(make("p", { class: "quiet" }, text));
  $("content").replaceChildren();
  if (matchMedia("(max-width: 59.99rem)").matches) $("preview").scrollIntoView();
  if (meta.kind === "other") { quiet("no regular file"); return; }
  if (!meta.size) { quiet("empty"); return; }
  const image = /\.(png|jpe?g|gif|webp)$/i.test(path) && meta.size < 16 << 20;
  const reply = await ask("GET", "/v1/files" + path, undefined, image ? {} : { Range: "bytes=0-65535" });
  if (image) {
    const blob = await reply.blob();
    current(number);
    const url = URL.createObjectURL(blob), gone = () => URL.revokeObjectURL(url);
    const broken = () => { gone(); quiet("no image that this browser can show"); };
    $("content").replaceChildren(make("img", { src: url, alt: decoded(path), onload: gone, onerror: broken }));
    return;
  }
  const found = new Uint8Array(await reply.arrayBuffer());
  current(number);
  const total = Number((reply.headers.get("Content-Range") || "").split("/")[1]) || found.length;
  const text = readable(found);
  if (text === null) quiet("no text");
  else $("content").replaceChildren(make("pre", { tabindex: 0 }, text + (total > found.length ? "\n…" : "")));
}

// Text, as UTF-16 with its mark, UTF-8, or else Windows' Latin; null: it is none.
function readable(found) {
  const mark = (found[0] << 8) | found[1];
  const decode = (coding, options) => new TextDecoder(coding, options).decode(found, { stream: true });
  if (mark === 0xfffe || mark === 0xfeff) return decode(mark === 0xfffe ? "utf-16le" : "utf-16be");
  if (found.includes(0)) return null;
  try { return decode("utf-8", { fatal: true }); } catch { return decode("windows-1252"); }
}

// -- indexes

function list(facts) {
  const word = (value) => {
    if (value === null || value === undefined) return "none";
    if (Array.isArray(value)) return value.map(word).join("; ");
    if (typeof value !== "object") return String(value);
    return Object.entries(value).filter(([, each]) => typeof each !== "object" || Object.keys(each || {}).length)
      .map(([name, each]) => `${name.replaceAll("_", " ")}: ${word(each)}`).join(", ");
  };
  return make("dl", {}, ...Object.entries(facts).filter(([, value]) => value !== undefined)
    .flatMap(([name, value]) => [make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, word(value))]));
}

const count = (ingest) => ingest.without_text + ingest.failed;

// How far ingest is, in a sentence.
function standing(ingest) {
  if (!ingest.backlog) return ingest.state;
  const eta = ingest.eta_s ? `, ready in about ${Math.ceil(ingest.eta_s)} s` : "";
  return `${ingest.state}: ${ingest.backlog} files to go, ${ingest.passages_per_s} passages/s${eta}`;
}

async function showIndexes() {
  if (!has("index")) { say("This version of the node has no indexes."); return; }
  const found = await json("GET", "/v1/indexes");
  $("list").replaceChildren(...found.map((index) => {
    const { path, embedder, dim, metric, dtype, files, created, ingest, ...rest } = index;
    const first = { embedder: embedder || "none: vectors are given", vectors: `${dim} × ${dtype}, ${metric}`, files,
      created: new Date(created * 1000).toLocaleString(), ingest: ingest ? standing(ingest) : undefined };
    const aside = ingest?.aside || [];
    return make("article", {},
      make("h2", {}, make("a", { href: "#browse" + encoded(path) }, name(path))), list(first),
      aside.length ? make("details", {}, make("summary", {}, `Not indexed: ${count(ingest)}`),
        make("ul", {}, ...aside.map((each) => make("li", {}, `${each.path}: ${each.reason}`)))) : null,
      make("details", {}, make("summary", {}, "All figures"), list(rest)));
  }));
  if (!found.length) say("There is no index yet: vexctl index create, or PUT /v1/indexes/PATH.");
}

// -- figures

const sum = (values) => Object.values(values || {}).reduce((a, b) => a + (typeof b === "number" ? b : 0), 0);
const tiers = (f) => Object.values(f.pools.tiers || {});
const hitRate = (f) => {
  const asked = tiers(f).reduce((a, t) => a + t.acquires, 0);
  return asked ? 100 * (1 - tiers(f).reduce((a, t) => a + t.misses, 0) / asked) : 100;
};
// name, unit, value of figures (and those before, with the seconds between), target: { least } or { most }
const CHARTS = [
  ["File operations", "/s", (f, b, s) => (b ? (sum(f.filesystem.operations) - sum(b.filesystem.operations)) / s : 0)],
  ["API requests", "/s", (f, b, s) => (b ? (sum(f.http.rest?.requests) - sum(b.http.rest?.requests)) / s : 0)],
  ["Commits", "/s", (f, b, s) => (b ? (f.filesystem.commits - b.filesystem.commits) / s : 0)],
  ["Pool hit rate", "%", hitRate, (t) => ({ least: 100 * t.pool_hit_rate })],
  ["Kernel calls", "/s", (f, b, s) => (b ? (sum(f.simd.counters) - sum(b.simd.counters)) / s : 0), null,
    (f) => `kernels: ${f.simd.level}`],
  ["Deepest stack", " B", (f) => f.stack.high_water, (t) => ({ most: t.stack_limit_bytes }),
    (f) => `${f.stack.violations} violations`],
  ["Bridge latency, mean", " µs", (f) => (f.bridge.latency_mean_ns || 0) / 1e3,
    (t) => ({ most: t.bridge_latency_ns / 1e3 }), (f) => `p99 ${((f.bridge.latency_ns?.p99 || 0) / 1e3).toFixed(0)} µs`],
  ["Bridge depth", "", (f) => f.bridge.depth || 0],
  ["Volume on disk", " MiB", (f) => f.filesystem.disk_bytes / 1048576],
];
const KEPT = 120;
const series = CHARTS.map(() => []);
let before = null;

function add(figures) {
  if (before && sum(figures.filesystem.operations) < sum(before.filesystem.operations)) before = null; // a new start
  const seconds = before ? figures.time - before.time : 0;
  CHARTS.forEach(([, , value], i) => {
    series[i].push(value(figures, seconds > 0 ? before : null, seconds) || 0);
    if (series[i].length > KEPT) series[i].shift();
  });
  before = figures;
  $("charts").replaceChildren(...CHARTS.map((chart, i) => draw(chart, series[i], figures)));
}

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function draw([name, unit, , target, note], values, figures) {
  const goal = target ? target(state.node.targets) : null;
  const line = goal ? goal.least ?? goal.most : 0;
  const now = values[values.length - 1];
  const top = Math.max(1e-9, line, ...values) * 1.1;
  const at = (value) => (100 - (100 * value) / top).toFixed(2);
  const picture = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img",
    "aria-label": `${name}: ${now.toFixed(1)}${unit}` });
  if (goal) picture.append(svg("line", { x1: 0, x2: 100, y1: at(line), y2: at(line) }));
  const points = values.map((value, i) => `${((100 * (i + KEPT - values.length)) / (KEPT - 1)).toFixed(2)},${at(value)}`);
  picture.append(svg("path", { d: "M" + points.join("L") }));
  const fine = !goal || (goal.least !== undefined ? now >= goal.least : now <= goal.most);
  const shown = now >= 100 ? now.toFixed(0) : now.toFixed(1);
  const small = [goal ? `target: ${goal.least !== undefined ? "at least" : "at most"} ${line.toFixed(0)}${unit}` : "",
    note ? note(figures) : ""].filter(Boolean).join("  ·  ");
  return make("figure", { class: goal ? (fine ? "good" : "bad") : "" },
    make("figcaption", {}, name, make("b", {}, shown + unit)), picture, make("small", {}, small || "\u00a0"));
}

function showFigures() {
  before = null;
  if (!state.node.scopes.includes("watch")) throw new Error("Figures need a token with the scope 'watch'.");
  if (!state.node.websocket_port) { poll(); return; }
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const place = `${location.hostname}:${state.node.websocket_port}`;
  const socket = state.socket = new WebSocket(`${scheme}//${place}/v1/subscribe`);
  let live = false;
  const number = shown, subscribe = { action: "subscribe", channel: "performance", id: "page", interval_s: 1 };
  socket.onopen = () => { if (state.token) socket.send(JSON.stringify({ action: "auth", token: state.token })); };
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "ready") socket.send(JSON.stringify(subscribe));
    else if (message.type === "event") {
      live = true;
      $("feed").textContent = "Live, every second.";
      add(message.data);
    }
    else if (message.type === "error") say(message.detail);
  };
  socket.onclose = (event) => {
    if (state.socket !== socket) return;
    state.socket = null;
    $("feed").textContent = "Asked for every second" + (event.reason ? ` (${event.reason}).` : ".");
    poll(number, live);
  };
}

// Without WebSocket: the same figures by asking.  A node that is away is waited for, and subscribed to again.
async function poll(number = shown, again = false) {
  let away = false;
  while (number === shown && state.node) {
    try {
      add({ time: Date.now() / 1000, ...(await json("GET", "/v1/performance")) });
      if (away || again) { show(); return; }
    } catch (error) {
      if (number !== shown) return;
      if (!state.node) { say(error.message); return; }
      away = true;
      say(error.message + " Trying again.");
    }
    await new Promise((resolve) => setTimeout(resolve, away ? 2000 : 1000));
  }
}

enter();
