// Machines by risk, every 30 seconds. Text goes in as text, never as markup.
"use strict";
const $ = (id) => document.getElementById(id);
const el = (name, text, cls) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
const percent = (p) => (p < 0.001 ? "< 0.1 %" : (100 * p).toFixed(1) + " %");
let timer = 0;

async function ask(path) {
  const answer = await fetch(path, { headers: { Authorization: "Bearer " + sessionStorage.getItem("key") } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

function life(rul) {
  const beyond = (q) => (rul.beyond !== null && q >= rul.beyond ? "over " + rul.beyond : Math.round(q));
  return beyond(rul.p50) + " " + rul.unit + " (" + beyond(rul.p10) + " to " + beyond(rul.p90) + ")";
}

function horizonOf(machines) {
  const names = machines.length ? Object.keys(machines[0].failure_probability) : [];
  return names.includes("48h") ? "48h" : names[0];
}

function row(plant, machine, horizon) {
  const tr = el("tr"), name = el("td"), risk = el("td", undefined, "number");
  const open = el("button", machine.machine, "machine");
  open.onclick = () => detail(plant, machine.machine).catch(say);
  name.append(open);
  const bar = el("meter");
  bar.max = 1; bar.value = machine.failure_probability[horizon];
  risk.append(percent(bar.value) + " ", bar);
  const heard = machine.data.last_reading.slice(0, 16).replace("T", " ") + " UTC" + (machine.data.stale ? ", stale" : "");
  tr.append(name, risk, el("td", life(machine.remaining_useful_life), "number"), el("td", heard, "number"),
    el("td", machine.degraded.map((c) => c.text).join("; ")));
  return tr;
}

async function show() {
  const plant = $("plant").value;
  if (!plant) return;
  const { machines } = await ask("v1/plants/" + encodeURIComponent(plant) + "/machines");
  const horizon = horizonOf(machines);
  $("horizon").textContent = horizon || "";
  $("machines").hidden = machines.length === 0;
  $("machines").tBodies[0].replaceChildren(...machines.map((m) => row(plant, m, horizon)));
  $("note").textContent = machines.length ? machines.length + " machines, as of " + new Date().toLocaleTimeString() : "No machine of this plant has readings yet.";
}

async function detail(plant, machine) {
  const found = await ask("v1/plants/" + encodeURIComponent(plant) + "/machines/" + encodeURIComponent(machine));
  const list = el("ul");
  for (const reason of found.reasons || []) {
    const part = (reason.contribution >= 0 ? "+" : "") + (100 * reason.contribution).toFixed(2) + " points";
    const item = el("li");
    item.append(el("span", part, reason.contribution > 0 ? "more" : ""), " " + reason.text);
    list.append(item);
  }
  $("detail").replaceChildren(el("h2", machine), el("p", "Model " + found.model.version + ", trained on " +
    found.model.num_failures_trained_on + " failures. Window filled to " + percent(found.data.coverage) + "."), list);
  $("detail").hidden = false;
  $("detail").scrollIntoView({ block: "nearest" });
}

const say = (error) => { $("note").textContent = error.message; };

async function start() {
  const { plants } = await ask("v1/plants");
  $("plant").replaceChildren(...plants.filter((p) => p.champion).map((p) => el("option", p.name)));
  $("choice").hidden = false;
  await show();
  clearInterval(timer);
  timer = setInterval(() => show().catch(say), 30000);
}

$("access").onsubmit = (event) => { event.preventDefault(); sessionStorage.setItem("key", $("key").value.trim()); start().catch(say); };
$("plant").onchange = () => { $("detail").hidden = true; show().catch(say); };
if (sessionStorage.getItem("key")) start().catch(say);
