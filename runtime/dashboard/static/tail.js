// The live log: a line for each call, and one for each thing that it logged. What workers say is only ever text here.
"use strict";

const LINES_MAX = 500;

const form = document.getElementById("tail");
const events = document.getElementById("events");
const state = form.querySelector("output");
let source = null;

function add(kind, moment, text) {
  const atEnd = events.scrollHeight - events.scrollTop - events.clientHeight < 8;
  const line = document.createElement("div");
  line.className = kind;
  const time = document.createElement("time");
  time.textContent = new Date(moment).toISOString().slice(11, 23);
  const said = document.createElement("bdi");
  said.textContent = text;
  line.append(time, " ", said);
  events.append(line);
  while (events.childElementCount > LINES_MAX) events.firstElementChild.remove();
  if (atEnd) events.scrollTop = events.scrollHeight;
}

function address(url) {
  try {
    const parsed = new URL(url);
    return parsed.pathname + parsed.search;
  } catch {
    return String(url);
  }
}

function show(event) {
  const call = event.event.request ? `${event.event.request.method} ${address(event.event.request.url)}` : `rpc ${event.event.rpcMethod}`;
  const status = event.event.response ? ` ${event.event.response.status}` : "";
  const outcome = event.outcome === "ok" ? "" : ` ${event.outcome}`;
  add(outcome ? "failed" : "call", event.eventTimestamp, `${call}${status}${outcome} · ${event.cpuTime.toFixed(1)} ms CPU, ${event.wallTime.toFixed(1)} ms`);
  for (const log of event.logs) add(log.level === "error" ? "failed" : "said", log.timestamp, log.message.join(" "));
  for (const error of event.exceptions) add("failed", error.timestamp, error.stack || `${error.name}: ${error.message}`);
  if (event.leftOut) add("failed", event.eventTimestamp, `${event.leftOut} events were left out: there were too many`);
}

function start() {
  if (source) source.close();
  source = new EventSource(`${form.dataset.address}?q=${encodeURIComponent(form.elements.q.value)}`);
  state.value = "connecting …";
  source.onopen = () => { state.value = "live"; };
  source.onerror = () => {
    state.value = source.readyState === EventSource.CLOSED ? "not possible: too many are open, or the session has ended" : "connecting …";
  };
  source.onmessage = (message) => show(JSON.parse(message.data));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
start();
