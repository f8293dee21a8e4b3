// The live page: reads /-/overview now and then and /-/events as they come, and keeps as much of both in the document as a person can
// look at. Whatever comes from others becomes text, never markup.
"use strict";

const MOST_REQUESTS = 200;
const POLL_MS = 5000;
const SOON_MS = 700;
const SAY_MS = 10000;
const MOST_WAITING = 400;

const $ = (id) => document.getElementById(id);
const state = { token: "", waiting: [], shown: 0, left: 0, paused: false, soon: 0, said: { all: 0, bad: 0 }, counted: 0 };

// === small helpers ===

function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") made.className = value;
    else if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const kinds = { ok: "ok", partial: "warn", client: "warn", client_error: "warn", deferred: "warn", skipped: "warn", cancelled: "warn", rejected: "warn", dry_run: "" };
const kindOf = (result) => (result in kinds ? kinds[result] : "bad");
const words = (text) => String(text ?? "").replaceAll("_", " ");
const clock = (text) => (/T(\d\d:\d\d:\d\d)/.exec(text || "") || [, "-"])[1];
const milliseconds = (ms) => (ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Number(ms || 0).toFixed(1)} ms`);
const plural = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

function cell(title, ...children) {
  return element("td", { role: "cell", "data-title": title }, ...children);
}

function badge(kind, text, title) {
  return element("span", { class: `badge ${kind}`, title }, text);
}

function age(seconds) {
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

// Shows these in a table: a row is made anew only where what it shows has changed, so that nothing moves under a cursor.
function fill(body, items, keyOf, rowOf) {
  const rows = (body.rowsByKey ||= new Map());
  const wanted = new Set();
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    wanted.add(key);
    const json = JSON.stringify(item);
    let known = rows.get(key);
    if (!known || known.json !== json) {
      const row = rowOf(item);
      row.setAttribute("role", "row");
      if (known) known.row.replaceWith(row);
      known = { json, row };
      rows.set(key, known);
    }
    const place = before ? before.nextSibling : body.firstChild;
    if (known.row !== place) body.insertBefore(known.row, place);
    before = known.row;
  }
  for (const [key, known] of rows) {
    if (!wanted.has(key)) {
      known.row.remove();
      rows.delete(key);
    }
  }
}

async function ask(path, options = {}) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  $("access").hidden = answer.status !== 401;
  return answer;
}

// === what is: routes, endpoints, what is owed, other parts ===

function routeRow(route) {
  const results = Object.entries(route.completed).filter(([, count]) => count > 0);
  const list = results.length
    ? element("ul", { class: "legs" }, ...results.map(([result, count]) => element("li", {}, badge(kindOf(result), `${words(result)} ${count}`))))
    : "none yet";
  const endpoints = `${route.ready} of ${route.known} ready`;
  const kind = route.empty ? "bad" : route.ready < route.known ? "warn" : "ok";
  return element(
    "tr",
    {},
    element("th", { scope: "row", role: "rowheader" }, route.route),
    cell("Endpoints", badge(kind, endpoints), route.empty ? ` ${route.empty}` : ""),
    cell("Requires", String(route.require)),
    cell("Requests", list),
  );
}

function condition(endpoint) {
  if (endpoint.problem) return badge("bad", "no address", endpoint.problem);
  if (endpoint.terminating) return badge("warn", endpoint.serving ? "terminating, serving" : "terminating");
  return endpoint.ready ? badge("ok", "ready") : badge("bad", "not ready");
}

function strip(recent) {
  if (!recent.length) return "none yet";
  const entries = recent.map((one) => {
    const at = new Date(one.at * 1000).toISOString();
    return element("li", { class: `badge ${kindOf(one.outcome)}`, title: `${words(one.outcome)} at ${at}` }, one.status ? String(one.status) : words(one.outcome));
  });
  return element("ol", { class: "strip" }, ...entries);
}

function endpointRow({ route, endpoint }) {
  const names = [endpoint.pod, endpoint.node && `node ${endpoint.node}`, endpoint.zone && `zone ${endpoint.zone}`].filter(Boolean);
  return element(
    "tr",
    {},
    element("th", { scope: "row", role: "rowheader", class: "code" }, endpoint.endpoint, names.length ? element("div", { class: "quiet" }, names.join(", ")) : ""),
    cell("Route", route),
    cell("Condition", condition(endpoint)),
    cell("Last outcomes", strip(endpoint.recent)),
    element("td", { role: "cell", "data-title": "In flight", class: "number" }, String(endpoint.in_flight)),
  );
}

function showBroadcast(overview) {
  const routes = overview.routes || [];
  fill($("routes"), routes.map(({ endpoints, found, ...route }) => route), (route) => route.route, routeRow);
  setText($("routes-note"), overview.routes ? (overview.more_routes ? `and ${plural(overview.more_routes, "route")} more` : "") : "This process broadcasts nothing.");
  const pairs = routes.flatMap((route) => route.endpoints.map((endpoint) => ({ route: route.route, endpoint })));
  fill($("endpoints"), pairs, (pair) => `${pair.route}\n${pair.endpoint.endpoint}`, endpointRow);
  const found = routes.reduce((sum, route) => sum + route.found, 0);
  const known = routes.reduce((sum, route) => sum + route.known, 0);
  setText($("endpoints-note"), `${pairs.length} shown of ${found} found; there are ${known}.`);
}

function showOwed(journals) {
  const jobs = (journals || []).flatMap((journal) => journal.jobs);
  $("owed-section").hidden = !(journals && journals.length);
  const states = (journals || []).map(({ journal }) => `${journal.directory || "kept in memory"}: ${words(journal.state)}${journal.error ? `, ${journal.error}` : ""}`);
  setText($("owed-note"), `${jobs.length ? plural(jobs.length, "request") : "Nothing"} owed. ${states.join("; ")}`);
  fill($("owed"), jobs, (job) => job.id, (job) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", role: "rowheader", class: "code" }, `${job.method} ${job.uri}`),
      cell("Route", job.route),
      element("td", { role: "cell", "data-title": "Until", class: "time" }, clock(job.expires)),
      cell("Owed to", job.deliveries.filter((one) => one.state === "owed").map((one) => `${one.pod || one.endpoint} (${plural(one.attempts, "attempt")}${one.last ? `, ${words(one.last.outcome)}` : ""})`).join(", ")),
    ),
  );
}

const yes = (good, bad) => (value) => (value ? ["ok", good] : ["bad", bad]);
const count = (what) => (value) => ["", plural(value, what)];
const heard = (value) => [value > 120 ? "warn" : "ok", `heard of ${age(value)} ago`];
const inSync = yes("in sync", "out of sync");
// The lists of the overview: what one of each is called, and how its columns are told.
const parts = {
  elections: ["Election", { leads: (value) => (value ? ["ok", "leads"] : ["", "stands by"]), start_command_runs: (value) => ["", value ? "start command runs" : "start command does not run"] }],
  exports: ["Export", { in_sync: inSync, endpoints: count("endpoint"), held: (value) => [value ? "warn" : "ok", `${plural(value, "endpoint")} held back`] }],
  bridges: ["Bridge", { in_sync: inSync }],
  mirrors: ["Mirror", { in_sync: inSync, staleness_seconds: heard, services: count("service"), objects: count("object"), failing: (value) => [value ? "bad" : "ok", `${value} failing`] }],
  watches: ["Watch", { age_seconds: heard }],
  lists: ["List", { age_seconds: (value) => [value > 120 ? "warn" : "ok", `fetched ${age(value)} ago`] }],
};

function showParts(overview) {
  const known = Object.entries(parts).flatMap(([list, [part, columns]]) =>
    overview[list].flatMap((row) => {
      const of = Object.values(row).filter((value) => typeof value === "string" && value).join(", ");
      return Object.keys(columns).filter((column) => column in row).map((column) => ({ list, part, column, of, value: row[column] }));
    }),
  );
  $("parts-section").hidden = known.length === 0;
  fill($("parts"), known, (one) => `${one.list}\n${one.column}\n${one.of}`, ({ list, part, column, of, value }) => {
    const [kind, text] = parts[list][1][column](value);
    return element(
      "tr",
      {},
      element("th", { scope: "row", role: "rowheader" }, part),
      cell("Of", of || "this process"),
      cell("State", badge(kind, text)),
    );
  });
}

let asking = null;

async function refresh() {
  clearTimeout(state.soon);
  state.soon = 0;
  asking?.abort();
  const mine = (asking = new AbortController());
  const query = new URLSearchParams({ find: $("find").value.trim(), problems: $("problems").checked });
  try {
    const answer = await ask(`/-/overview?${query}`, { signal: mine.signal });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const overview = await answer.json();
    setText($("process"), `Version ${overview.version}`);
    $("ready").className = `badge ${overview.ready ? "ok" : "bad"}`;
    setText($("ready"), overview.ready ? "ready" : `not ready: ${overview.why}`);
    showBroadcast(overview);
    showOwed(overview.journals);
    showParts(overview);
  } catch (error) {
    if (mine.signal.aborted) return;
    $("ready").className = "badge bad";
    setText($("ready"), `no answer: ${error.message}`);
  }
}

// Many changes in a moment are one look.
function refreshSoon() {
  state.soon ||= setTimeout(refresh, SOON_MS);
}

// === what happens ===

function requestRow(request) {
  const legs = request.legs.map((leg) => {
    const name = leg.pod || leg.endpoint;
    const text = `${name} ${leg.status ?? words(leg.outcome)} ${milliseconds(leg.ms)}`;
    return element("li", {}, badge(kindOf(leg.outcome), text, leg.error || words(leg.outcome)));
  });
  if (request.more_legs) legs.push(element("li", { class: "quiet" }, `and ${request.more_legs} more`));
  const result = request.completed || request.result;
  const differ = request.divergent ? ` ${request.divergent} differ` : "";
  return element(
    "tr",
    { role: "row", title: request.id },
    element("td", { role: "cell", "data-title": "Time", class: "time" }, clock(request.time)),
    element("th", { role: "rowheader", scope: "row", class: "code" }, `${request.method} ${request.target}`),
    cell("Route", request.route),
    cell("Answer", badge(kindOf(result), `${request.status} ${words(result)}`, request.reason), " ", element("span", { class: "time" }, milliseconds(request.ms)), differ),
    cell("Copies", legs.length ? element("ul", { class: "legs" }, ...legs) : "none"),
  );
}

// Once per frame at most, whatever the number of events.
function draw() {
  state.drawing = false;
  if (state.paused) return;
  const body = $("requests");
  const fresh = state.waiting.splice(0).slice(-MOST_REQUESTS);
  const rows = fresh.filter((request) => !$("failures").checked || kindOf(request.completed) !== "ok").map(requestRow).reverse();
  body.prepend(...rows);
  while (body.children.length > MOST_REQUESTS) body.lastElementChild.remove();
  note();
}

function note() {
  const parts = [`${body_count()} shown`];
  if (state.left) parts.push(`${state.left} left out, because there are more in a second than are shown here`);
  if (state.paused) parts.push(`paused, ${state.waiting.length} waiting`);
  setText($("requests-note"), `${parts.join("; ")}.`);
}

const body_count = () => plural($("requests").children.length, "request");

function happened(name, data) {
  if (name === "request") {
    state.said.all += 1;
    if (kindOf(data.completed) !== "ok") state.said.bad += 1;
    state.waiting.push(data);
    if (state.waiting.length > MOST_WAITING) state.waiting.shift();
    refreshSoon();
  } else if (name === "endpoint") {
    refreshSoon();
  } else if (name === "sampled") {
    state.left += data.left_out;
    state.said.all += data.left_out;
  } else if (name === "dropped") {
    state.left += data.missed;
  }
  if (!state.drawing) {
    state.drawing = true;
    requestAnimationFrame(draw);
  }
  if (state.paused) note();
}

function readEvents(text, tell) {
  const blocks = text.split("\n\n");
  const rest = blocks.pop();
  for (const block of blocks) {
    let [name, data] = ["message", ""];
    for (const line of block.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data += line.slice(5).trimStart();
    }
    if (data) tell(name, JSON.parse(data));
  }
  return rest;
}

async function watch() {
  let pause = 1000;
  for (;;) {
    try {
      const answer = await ask("/-/events", { headers: {} });
      if (!answer.ok) throw new Error(answer.status === 401 ? "a token is needed" : (await answer.text()).trim());
      setText($("stream"), "Watching");
      pause = 1000;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        rest = readEvents(rest + value, happened);
      }
      setText($("stream"), "The process has ended the stream; trying again");
    } catch (error) {
      setText($("stream"), `Not watching: ${error.message}`);
    }
    await new Promise((resume) => {
      state.again = resume;
      setTimeout(resume, pause);
    });
    pause = Math.min(pause * 2, 15000);
  }
}

// Somebody who listens is told in sums, and not more often than can be followed.
setInterval(() => {
  const { all, bad } = state.said;
  state.said = { all: 0, bad: 0 };
  setText($("said"), all ? `${plural(all, "request")} in the last 10 seconds, ${bad} not ok` : "");
}, SAY_MS);

// === what people do ===

$("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", String(state.paused));
  if (state.paused) note();
  else draw();
});
$("failures").addEventListener("change", () => {
  $("requests").replaceChildren();
  note();
});
$("look").addEventListener("submit", (event) => event.preventDefault());
$("find").addEventListener("input", refreshSoon);
$("problems").addEventListener("change", refresh);
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  $("token").value = "";
  refresh();
  state.again?.();
});
setInterval(() => {
  if (!document.hidden) refresh();
}, POLL_MS);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

refresh();
watch();
