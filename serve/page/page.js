// Machines by risk, and one of them: asked again every few seconds while somebody looks.
"use strict";
const EVERY_MS = 10000, FIRST = 100;
const $ = (id) => document.getElementById(id);
const el = (name, text, cls) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1 %" : (100 * p).toFixed(1) + " %");
const state = { timer: 0, all: false, machines: [], models: {}, asked: 0, open: "" };

async function ask(path) {
  const answer = await fetch(path, { headers: { Authorization: "Bearer " + sessionStorage.getItem("key") }, cache: "no-store" });
  const body = await answer.json().catch(() => ({ detail: "The service answered with " + answer.status + "." }));
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

const of = (plant, machine) => "v1/plants/" + encodeURIComponent(plant) + "/machines" + (machine === undefined ? "" : "/" + encodeURIComponent(machine));
const when = (text) => text.slice(0, 16).replace("T", " ");
const duration = (s) => (s < 90 ? Math.round(s) + " s" : s < 5400 ? Math.round(s / 60) + " min" : s < 172800 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " d");
const within = (rul, q) => (rul.beyond !== null && q >= rul.beyond ? "over " + rounded(rul.beyond) : rounded(q));
const life = (rul) => within(rul, rul.p50) + " " + rul.unit + " (" + within(rul, rul.p10) + " to " + within(rul, rul.p90) + ")";

function horizonOf(machines) {
  const names = machines.length ? Object.keys(machines[0].failure_probability) : [];
  return names.includes("48h") ? "48h" : names[0];
}

// Where one is: #plant/machine, so that a link and the back button lead there.
function place() {
  const [plant, machine] = location.hash.slice(1).split("/").map(decodeURIComponent);
  return { plant: plant || "", machine: machine || "" };
}
const linkTo = (plant, machine) => "#" + encodeURIComponent(plant) + (machine ? "/" + encodeURIComponent(machine) : "");

function row(plant, machine, horizon, open) {
  const tr = el("tr"), name = el("td"), risk = el("td", undefined, "number"), chance = machine.failure_probability[horizon];
  const button = el("button", machine.machine, "machine");
  button.onclick = () => { location.hash = linkTo(plant, machine.machine); };
  if (machine.machine === open) { tr.className = "open"; button.setAttribute("aria-current", "true"); }
  name.append(button);
  risk.append(percent(chance) + " ", bar(chance, "bar-risk"));
  const age = machine.data.stale ? "stale, " + duration(machine.data.age_s) + " old" : duration(machine.data.age_s) + " ago";
  tr.append(name, risk, el("td", life(machine.remaining_useful_life), "number"),
    el("td", machine.remaining_useful_life.unit === "cycle" ? "" : age, "number wide"),
    el("td", machine.degraded.filter((c) => c.code !== "stale").map((c) => c.text).join("; "), "wide"));
  return tr;
}

function list() {
  const { plant, machine } = place(), part = $("filter").value.toLowerCase();
  const found = state.machines.filter((m) => m.machine.toLowerCase().includes(part)), horizon = horizonOf(state.machines);
  const some = state.all || part ? found : found.slice(0, FIRST);
  $("horizon").textContent = horizon || "";
  $("machines").tBodies[0].replaceChildren(...some.map((m) => row(plant, m, horizon, machine)));
  $("more").hidden = some.length === found.length;
  $("more").textContent = "Show all " + found.length;
}

function stateOfModel(plant) {
  const line = state.models[plant];
  $("model").textContent = !line ? "" : "Model " + line.champion + (line.challenger ? "; on trial " + line.challenger + (line.share ? " for " + percent(line.share) + " of the machines" : ", unheard") : "");
}

async function show() {
  const asked = ++state.asked, { plant, machine } = place();
  if (!plant) return;
  const [{ plants }, { machines }] = await Promise.all([ask("v1/plants"), ask(of(plant))]);
  const [one, past] = machine ? await Promise.all([ask(of(plant, machine)), ask(of(plant, machine) + "/history")]).catch((error) => [error]) : [];
  const there = past !== undefined;
  if (asked !== state.asked) return; // a later question is on its way
  state.machines = machines;
  state.models = Object.fromEntries(plants.map((p) => [p.name, p]));
  $("plant").value = plant;
  document.querySelector("main").className = there ? "two" : "";
  $("list").hidden = machines.length === 0;
  stateOfModel(plant);
  list();
  $("detail").hidden = !there;
  if (there) detail(plant, one, past);
  if (there && machine !== state.open) $("detail").focus({ preventScroll: true });
  if (machine !== state.open) window.scrollTo(0, 0);
  state.open = machine;
  document.title = "Millwright: " + (machine || plant);
  const stale = machines.filter((m) => m.data.stale).length;
  $("note").textContent = one instanceof Error ? one.message : machines.length ? machines.length + " machines" + (stale ? ", " + stale + " of them silent" : "") + ", as of " + new Date().toLocaleTimeString() + "." : "No machine of this plant has readings yet.";
}

function figure(title, drawn, cls) {
  const box = el("figure", undefined, cls);
  box.append(el("figcaption", title), drawn);
  return box;
}

function numbers(one) {
  const box = el("div", undefined, "figures");
  const put = (cls, value, text) => { const e = el("div", undefined, cls); e.append(el("b", value), el("span", text)); box.append(e); };
  for (const [horizon, chance] of Object.entries(one.failure_probability)) put("risk", percent(chance), "fails within " + horizon);
  const rul = one.remaining_useful_life;
  put("life", within(rul, rul.p50) + " " + rul.unit, "remaining life; nine in ten " + within(rul, rul.p10) + " or more, one in ten " + within(rul, rul.p90) + " or more");
  return box;
}

function reasons(found) {
  const items = el("ul", undefined, "reasons"), most = Math.max(1e-12, ...found.map((r) => Math.abs(r.contribution)));
  for (const reason of found.slice(0, 8)) {
    const up = reason.contribution >= 0, item = el("li"), points = 100 * reason.contribution;
    item.append(bar(Math.abs(reason.contribution) / most, up ? "bar-risk" : "bar-calm"),
      el("span", (up ? "\u2191 +" : "\u2193 \u2212") + (Math.abs(points) < 0.01 ? "<0.01" : Math.abs(points).toFixed(2)), "part"), el("span", reason.text));
    items.append(item);
  }
  return items;
}

function charts(past, one) {
  const cycles = past.life_unit === "cycle", ms = (text) => Date.parse(text);
  const moment = (t) => (cycles ? "cycle " + Math.round(t / 1000 / past.step_s) : when(new Date(t).toISOString()) + " UTC");
  const span = past.times.length ? [ms(past.times[0]), ms(past.times[past.times.length - 1])] : [0, 1];
  const events = past.events.map((e) => ({ at: ms(e.started_at), kind: e.kind, text: told(e, moment) }));
  const said = past.predictions, chance = said.map((p) => [ms(p.as_of), p.failure_probability[past.horizon]]);
  const lives = said.map((p) => [ms(p.as_of), p.remaining_useful_life]), unit = one.remaining_useful_life.unit;
  const most = Math.min(1, roundUp(Math.max(0.01, ...chance.map(([, p]) => p)))), longest = Math.max(1, ...lives.map(([, r]) => r.p90));
  const width = Math.min(640, $("detail").clientWidth - 32);
  const drawn = [
    figure("Risk of failing within " + past.horizon, chart({ title: "Risk over time, now " + percent(one.failure_probability[past.horizon]), low: 0, high: most, width, written: (v) => Number((100 * v).toPrecision(3)) + " %", moment, span, events, lines: [{ kind: "risk", points: chance }] })),
    figure("Remaining life: median (dashed), and the band from p10 to p90", chart({ title: "Remaining life over time, now " + life(one.remaining_useful_life), low: 0, high: longest, width, written: (v) => rounded(v) + " " + unit, moment, span, events,
      band: lives.map(([t, r]) => [t, r.p10, r.p90]), lines: [{ kind: "life", points: lives.map(([t, r]) => [t, r.p50]) }] })),
  ];
  const kinds = [...new Set(events.map((e) => WORDS[e.kind]).filter(Boolean))];
  drawn.push(el("p", (kinds.length ? kinds.join(", ") + ". " : "") + "Each moment as the model of today reads it.", "quiet"));
  return { drawn, moment, span, events };
}

function told(event, moment) {
  return moment(Date.parse(event.started_at)) + ": " + [event.kind, event.component, event.failure_mode, event.code, event.finding].filter(Boolean).join(", ");
}

function sensors(past, one, about) {
  const order = new Map((one.reasons || []).map((r, i) => [r.sensor, i])), box = el("div", undefined, "sensors");
  for (const s of [...past.sensors].sort((a, b) => (order.get(a.sensor) ?? 1e9) - (order.get(b.sensor) ?? 1e9))) {
    const there = s.values.filter((v) => v !== null), unit = s.unit === "1" || !s.unit ? "" : " " + s.unit;
    const title = s.sensor.replaceAll("_", " ");
    if (!there.length) { box.append(figure(title + ": no value", el("p", "", "quiet"))); continue; }
    const all = s.usual === null ? there : [...there, s.usual];
    const low = Math.min(...all), high = Math.max(...all), last = there[there.length - 1];
    const outside = s.trained && (last < s.trained[0] || last > s.trained[1]);
    const text = title + ": " + rounded(last) + unit + (s.usual === null ? "" : ", usual " + rounded(s.usual)) + (outside ? ", outside what training saw" : "");
    box.append(figure(text, chart({ title: text, low, high: high === low ? low + 1 : high, written: rounded, moment: () => "", span: about.span, width: 300, height: 90, usual: s.usual, events: about.events,
      lines: [{ kind: "sensor", points: s.values.map((v, i) => [Date.parse(past.times[i]), v]) }] })));
  }
  return box;
}

function dataState(one) {
  const { data, model } = one, lines = el("ul", undefined, "log");
  const cycles = one.remaining_useful_life.unit === "cycle";
  lines.append(el("li", cycles ? data.readings + " cycles are in the window." : "Last reading " + when(data.last_reading) + " UTC, " + duration(data.age_s) + " ago" + (data.stale ? ": stale" : "") + "."),
    el("li", "The window is filled to " + percent(data.coverage) + (data.sensors_missing.length ? "; nothing of " + data.sensors_missing.join(", ") : "") + "."),
    el("li", "Model " + model.name + " " + model.version + ", of the " + model.scope + ", trained on " + model.num_failures_trained_on + " failures."));
  return lines;
}

function detail(plant, one, past) {
  const about = charts(past, one), head = el("header"), back = el("button", "All machines", "back"), name = el("h2", one.machine);
  name.id = "name";
  back.onclick = () => { location.hash = linkTo(plant); };
  head.append(name, back);
  const parts = [head, numbers(one)];
  if (one.degraded.length) parts.push(el("p", "Doubts: " + one.degraded.map((c) => c.text).join("; ") + ".", "doubts"));
  parts.push(...about.drawn, el("h3", "Why: points of risk within " + past.horizon), reasons(one.reasons || []), el("h3", "Sensors"), sensors(past, one, about), el("h3", "Log"));
  const log = el("ul", undefined, "log");
  for (const event of [...past.events].reverse().slice(0, 30)) log.append(el("li", told(event, about.moment)));
  parts.push(past.events.length ? log : el("p", "Nothing was logged in this time.", "quiet"), el("h3", "Model and data"), dataState(one));
  $("detail").replaceChildren(...parts);
}

const say = (error) => { $("note").textContent = error.message; };

function again() {
  clearTimeout(state.timer);
  if (sessionStorage.getItem("key") && !document.hidden) show().catch(say).finally(() => { clearTimeout(state.timer); state.timer = setTimeout(again, EVERY_MS); });
}

async function start() {
  const { plants } = await ask("v1/plants"), there = plants.filter((p) => p.champion).map((p) => p.name);
  if (!there.length) throw new Error("No plant of this key has a model yet.");
  $("plant").replaceChildren(...there.map((name) => el("option", name)));
  $("choice").hidden = $("leave").hidden = false;
  $("access").hidden = true;
  if (!there.includes(place().plant)) location.replace(linkTo(there[0]));
  again();
}

$("access").onsubmit = (event) => { event.preventDefault(); sessionStorage.setItem("key", $("key").value.trim()); $("key").value = ""; start().catch((error) => { sessionStorage.removeItem("key"); say(error); }); };
$("leave").onclick = () => { sessionStorage.removeItem("key"); location.replace("#"); location.reload(); };
$("plant").onchange = () => { location.hash = linkTo($("plant").value); };
$("filter").oninput = list;
$("more").onclick = () => { state.all = true; list(); };
window.onhashchange = again;
document.onvisibilitychange = again;
if (sessionStorage.getItem("key")) start().catch(say);
