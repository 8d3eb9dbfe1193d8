// Shows /openapi.json and sends its examples. Everything comes from this server and goes to it; text that the server
// sends is only ever put in as text.
"use strict";

const METHODS = ["get", "put", "post", "delete", "patch"];
// What is shown of an answer; a stream may go on for ever.
const MOST_SHOWN = 200000;
const FRESH_IDS = ["transaction_id", "login_id"];

let api = null;
// The latest good answer to each operation, by its id: where links take their values from.
const answers = new Map();
const operations = new Map();

const byId = (id) => document.getElementById(id);

// An element; attributes that are null are left out, children that are null too.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "click") node.addEventListener("click", value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function resolve(value) {
  let seen = 0;
  while (value && value.$ref && seen++ < 20) {
    value = pointer(api, value.$ref.slice(1));
  }
  return value || {};
}

function pointer(value, path) {
  for (const part of path.split("/").slice(1)) {
    value = value === undefined || value === null ? undefined : value[part.replace(/~1/g, "/").replace(/~0/g, "~")];
  }
  return value;
}

// Schemas ------------------------------------------------------------------------------------------------------------

function typeOf(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return choices.map((one) => typeOf(resolve(one))).join(" | ");
  if (schema.allOf) return "object";
  const type = [].concat(schema.type || "any").join(" | ");
  if (type === "array") return "array of " + typeOf(resolve(schema.items));
  return schema.format ? type + ", " + schema.format : type;
}

function limitsOf(schema) {
  const shown = [];
  const say = (key, text) => schema[key] !== undefined && shown.push(text + " " + JSON.stringify(schema[key]));
  say("minimum", "at least");
  say("exclusiveMinimum", "more than");
  say("maximum", "at most");
  say("minLength", "length at least");
  say("maxLength", "length at most");
  say("pattern", "matches");
  say("default", "default");
  return shown.join(", ");
}

// Every field that an object of the schema has, as [name, schema, required].
function fieldsOf(schema) {
  const fields = (schema.allOf || []).flatMap((part) => fieldsOf(resolve(part)));
  const required = schema.required || [];
  for (const [name, field] of Object.entries(schema.properties || {})) {
    fields.push([name, resolve(field), required.includes(name)]);
  }
  if (schema.additionalProperties && schema.additionalProperties !== true) {
    fields.push(["any name", resolve(schema.additionalProperties), false]);
  }
  return fields;
}

// What a schema holds, through arrays and alternatives.
function innerOf(schema) {
  const inner = [schema, ...(schema.anyOf || schema.oneOf || []).map(resolve)];
  return inner.flatMap((one) => (one.items ? innerOf(resolve(one.items)) : [one])).flatMap(fieldsOf);
}

function showFields(fields, depth) {
  if (!fields.length || depth > 6) return null;
  const rows = fields.map(([name, schema, required]) => {
    const note = [schema.description, limitsOf(schema)].filter(Boolean).join("; ");
    return make("li", null,
      make("code", null, name), " ", make("span", { class: "type" }, typeOf(schema)), " ",
      required ? make("span", { class: "required" }, "required") : null,
      note ? make("div", { class: "note" }, note) : null,
      showFields(innerOf(schema), depth + 1));
  });
  return make("ul", { class: "fields" }, ...rows);
}

function showSchema(schema, title) {
  const resolved = resolve(schema);
  const fields = showFields(innerOf(resolved), 0);
  if (!fields) return null;
  const name = schema.$ref ? schema.$ref.split("/").pop() : "";
  return make("details", null, make("summary", null, title + (name ? ": " + name : "")), fields);
}

function exampleOf(content) {
  const named = Object.values(content.examples || {}).map((one) => resolve(one).value);
  const [found] = [content.example, ...named, ...(resolve(content.schema).examples || [])].filter((one) => one !== undefined);
  return found;
}

const printed = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// Examples made current ----------------------------------------------------------------------------------------------

function walk(value, change) {
  if (Array.isArray(value)) return value.map((one) => walk(one, change));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, change(key, walk(one, change))]));
}

const isTime = (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value) && !Number.isNaN(Date.parse(value));

// The example with its latest event happening now, and ids that nobody has used.
function current(example) {
  const times = [];
  const values = typeof example === "string" ? example.split("\n").filter(Boolean).map((line) => JSON.parse(line)) : [example];
  walk(values, (key, value) => (key === "timestamp" && isTime(value) && times.push(Date.parse(value)), value));
  const shift = times.length ? Date.now() - Math.max(...times) : Date.now();
  const mark = Date.now().toString(36);
  const fresh = walk(values, (key, value) => {
    if (isTime(value)) {
      // An end lies ahead of its example's other times, or ahead of now.
      const moved = times.length ? Date.parse(value) + shift : Date.now() + 86400000;
      return new Date(moved).toISOString();
    }
    return FRESH_IDS.includes(key) && typeof value === "string" ? value + "-" + mark : value;
  });
  return typeof example === "string" ? fresh.map((one) => JSON.stringify(one)).join("\n") + "\n" : printed(fresh[0]);
}

// Links: which operation's answer gives the parameters of another ------------------------------------------------------

function linksTo(operationId) {
  const found = [];
  for (const source of operations.values()) {
    for (const response of Object.values(source.operation.responses || {})) {
      for (const link of Object.values(resolve(response).links || {})) {
        if (resolve(link).operationId === operationId) found.push([source, resolve(link)]);
      }
    }
  }
  return found;
}

async function follow(shown) {
  for (const [source, link] of linksTo(shown.operation.operationId)) {
    const empty = Object.keys(link.parameters).filter((name) => shown.inputs.has(name) && !shown.inputs.get(name).value);
    if (!empty.length) continue;
    if (!answers.has(source.operation.operationId) || source.method === "get") await send(source);
    for (const name of empty) {
      const path = link.parameters[name].replace("$response.body#", "");
      const value = pointer(answers.get(source.operation.operationId), path);
      if (value !== undefined) shown.inputs.get(name).value = value;
    }
  }
}

// Sending ------------------------------------------------------------------------------------------------------------

function urlOf(shown) {
  const query = new URLSearchParams();
  let path = shown.path;
  for (const parameter of shown.parameters) {
    const value = shown.inputs.get(parameter.name).value;
    if (parameter.in === "path") path = path.replace("{" + parameter.name + "}", encodeURIComponent(value));
    else if (parameter.in === "query" && value) query.append(parameter.name, value);
  }
  return path + (query.size ? "?" + query : "");
}

function headersOf(shown) {
  const headers = new Headers();
  const key = byId("key").value.trim();
  if (key && shown.scopes.length) headers.set("Authorization", "Bearer " + key);
  if (shown.body) headers.set("Content-Type", shown.bodyType);
  for (const parameter of shown.parameters.filter((one) => one.in === "header")) {
    const value = shown.inputs.get(parameter.name).value;
    if (value) headers.set(parameter.name, value);
  }
  return headers;
}

async function send(shown) {
  shown.stop = new AbortController();
  shown.sendButton.disabled = true;
  shown.stopButton.hidden = false;
  try {
    await follow(shown);
    if (shown.body && !shown.edited) shown.body.value = current(shown.example);
    const url = urlOf(shown);
    shown.answer.replaceChildren(make("p", { class: "mono" }, shown.method.toUpperCase() + " " + url), make("p", null, "Waiting …"));
    const started = performance.now();
    const response = await fetch(url, {
      method: shown.method.toUpperCase(), headers: headersOf(shown), body: shown.body ? shown.body.value : undefined,
      signal: shown.stop.signal, cache: "no-store", credentials: "omit", redirect: "error",
    });
    await show(shown, response, Math.round(performance.now() - started));
  } catch (error) {
    const stopped = error.name === "AbortError";
    shown.answer.append(make("p", { class: "status bad" }, stopped ? "Stopped." : "No answer: " + error.message));
  } finally {
    shown.sendButton.disabled = false;
    shown.stopButton.hidden = true;
  }
}

async function show(shown, response, ms) {
  const body = make("pre", { class: "wrap", tabindex: "0", "aria-label": "Body of the answer" });
  const headers = [...response.headers].map(([name, value]) => name + ": " + value).join("\n");
  shown.answer.replaceChildren(
    make("p", { class: "mono" }, shown.method.toUpperCase() + " " + new URL(response.url).pathname + new URL(response.url).search),
    make("p", { class: "status " + (response.ok ? "good" : "bad") }, response.status + " " + response.statusText + ", " + ms + " ms"),
    make("details", null, make("summary", null, "Headers"), make("pre", null, headers)),
    body);
  let text = "";
  const reader = response.body ? response.body.pipeThrough(new TextDecoderStream()).getReader() : null;
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    if (text.length < MOST_SHOWN) text += value;
    body.textContent = text.slice(0, MOST_SHOWN);
  }
  if (/json$/.test((response.headers.get("content-type") || "").split(";")[0]) && text.length < MOST_SHOWN) {
    const value = text.includes("\n") && !text.trimStart().startsWith("{\n") ? null : JSON.parse(text || "null");
    if (value !== null) body.textContent = printed(value);
    if (response.ok && value !== null) answers.set(shown.operation.operationId, value);
  }
  if (!text) body.textContent = "(no body)";
  if (text.length >= MOST_SHOWN) body.textContent += "\n… cut off here";
}

// The page -----------------------------------------------------------------------------------------------------------

function showParameter(shown, parameter) {
  const schema = resolve(parameter.schema);
  const id = shown.operation.operationId + "-" + parameter.name;
  const example = parameter.example !== undefined ? parameter.example : schema.examples && schema.examples[0];
  let input;
  if (schema.enum) {
    const options = schema.enum.map((one) => make("option", { value: one, selected: one === example && parameter.required ? "" : null }, one));
    input = make("select", { id }, parameter.required ? null : make("option", { value: "" }, ""), ...options);
  } else {
    input = make("input", { id, type: "text", autocomplete: "off", spellcheck: "false", placeholder: example });
    if (parameter.required && example !== undefined) input.value = example;
  }
  shown.inputs.set(parameter.name, input);
  const note = [parameter.description, limitsOf(schema)].filter(Boolean).join("; ");
  return make("div", { class: "parameter" },
    make("label", { for: id }, make("code", null, parameter.name), " ",
      make("span", { class: "type" }, parameter.in + ", " + typeOf(schema)), " ",
      parameter.required ? make("span", { class: "required" }, "required") : null),
    input, note ? make("p", { class: "note" }, note) : null);
}

function showBody(shown, requestBody) {
  const [type, content] = Object.entries(resolve(requestBody).content)[0];
  shown.bodyType = type;
  shown.example = exampleOf(content);
  const id = shown.operation.operationId + "-body";
  shown.body = make("textarea", { id, spellcheck: "false", class: type.endsWith("ndjson") ? "lines" : null, rows: "4" });
  shown.body.value = current(shown.example);
  shown.body.rows = Math.min(18, shown.body.value.split("\n").length + 1);
  shown.body.addEventListener("input", () => { shown.edited = true; });
  const again = make("button", { type: "button", class: "plain", click: () => { shown.edited = false; shown.body.value = current(shown.example); } }, "Example again");
  return [make("h3", null, make("label", { for: id }, "Body ", make("span", { class: "type" }, type))), shown.body,
    make("p", { class: "note" }, "Times and ids are made new on every send, until you edit the body. ", again),
    showSchema(content.schema || {}, "Fields")];
}

function showResponse([status, response]) {
  const resolved = resolve(response);
  // Every refusal is a problem, whose fields are shown once.
  const contents = status.startsWith("2") ? Object.entries(resolved.content || {}) : [];
  const parts = contents.flatMap(([type, content]) => {
    const example = exampleOf(content);
    return [make("div", { class: "type" }, type), showSchema(content.schema || {}, "Fields"),
      example === undefined ? null : make("details", null, make("summary", null, "Example"), make("pre", { class: "wrap" }, printed(example)))];
  });
  const headers = Object.entries(resolved.headers || {}).map(([name, header]) =>
    make("div", { class: "note" }, make("code", null, name), " ", resolve(header).description || ""));
  return make("div", { class: "response" }, make("span", null, status), make("div", null, resolved.description || "", ...headers, ...parts));
}

function showOperation(path, method, operation, shared) {
  const scopes = (operation.security || []).flatMap((one) => Object.values(one).flat());
  const parameters = [...shared, ...(operation.parameters || [])].map(resolve);
  const shown = { path, method, operation, parameters, scopes, inputs: new Map(), edited: false };
  operations.set(operation.operationId, shown);
  shown.answer = make("div", { class: "answer", role: "status" });
  shown.sendButton = make("button", { type: "button", class: "primary", click: () => send(shown) }, "Send");
  shown.stopButton = make("button", { type: "button", class: "plain", hidden: "", click: () => shown.stop.abort() }, "Stop");
  const need = scopes.length ? "Needs a key with the scope " + scopes.join(" or ") + ", where the server has keys." : "Open to all.";
  const verb = method.toUpperCase();
  const inside = make("div", { class: "inside" },
    operation.description ? make("p", null, operation.description) : null,
    make("p", { class: "scope" }, need),
    parameters.length ? make("h3", null, "Parameters") : null,
    ...parameters.map((parameter) => showParameter(shown, parameter)),
    ...(operation.requestBody ? showBody(shown, operation.requestBody) : []),
    make("div", { class: "send" }, shown.sendButton, shown.stopButton),
    shown.answer,
    make("h3", null, "Answers"),
    ...Object.entries(operation.responses || {}).map(showResponse),
    showSchema({ $ref: "#/components/schemas/Problem" }, "Fields of every refusal"));
  const anchor = "op-" + operation.operationId;
  const label = () => [make("span", { class: "method " + verb }, verb), make("span", { class: "path mono" }, path)];
  const details = make("details", { class: "operation", id: anchor },
    make("summary", null, ...label(), make("span", { class: "what" }, operation.summary || "")), inside);
  const open = () => { details.open = true; };
  byId("index").append(make("li", null, make("a", { href: "#" + anchor, click: open }, ...label())));
  byId("operations").append(details);
}

async function start() {
  const response = await fetch("/openapi.json", { cache: "no-cache", credentials: "omit" });
  if (!response.ok) throw new Error(response.status + " " + response.statusText);
  api = await response.json();
  byId("title").textContent = api.info.title + " " + api.info.version;
  byId("summary").textContent = api.info.summary || "";
  byId("about").textContent = api.info.description || "";
  byId("access").addEventListener("submit", (event) => event.preventDefault());
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((one) => item[one])) showOperation(path, method, item[method], item.parameters || []);
  }
  byId("loading").remove();
  const wanted = location.hash.startsWith("#op-") && byId(location.hash.slice(1));
  const first = wanted || document.querySelector("details.operation");
  if (first) first.open = true;
  if (wanted) wanted.scrollIntoView();
}

start().catch((error) => { byId("loading").textContent = "/openapi.json cannot be read: " + error.message; });
