// The description of the API, read from /openapi.json. Nothing comes from another host.
"use strict";
const el = (name, text) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; return e; };

function schemaOf(content) {
  const kinds = Object.keys(content || {});
  return kinds.map((kind) => kind + ": " + JSON.stringify(content[kind].schema, null, 1)).join("\n");
}

function route(path, method, about) {
  const box = el("details"), head = el("summary");
  head.append(el("code", method.toUpperCase() + " " + path), " " + (about.description || about.summary || "").split("\n")[0]);
  box.append(head);
  for (const p of about.parameters || []) box.append(el("p", p.in + " " + p.name + (p.required ? " (required)" : "") + ": " + (p.description || "")));
  if (about.requestBody) box.append(el("p", "Body"), el("pre", schemaOf(about.requestBody.content)));
  for (const [status, answer] of Object.entries(about.responses || {})) box.append(el("p", status + " " + answer.description), el("pre", schemaOf(answer.content)));
  return box;
}

fetch("openapi.json").then((answer) => answer.json()).then((api) => {
  const main = document.getElementById("routes");
  main.replaceChildren(el("p", api.info.description), el("h2", "Routes"));
  for (const [path, methods] of Object.entries(api.paths)) for (const [method, about] of Object.entries(methods)) main.append(route(path, method, about));
  main.append(el("h2", "Schemas"));
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    const box = el("details");
    box.append(el("summary", name), el("pre", JSON.stringify(schema, null, 1)));
    main.append(box);
  }
});
