"use strict";
// Small parts of the page. Text is only ever set as text, never as HTML.

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function number(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4);
}

const count = (value) => value.toLocaleString("en");
const plural = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;

// The state of the page stands in its address, so that going back and bookmarks work.
const STATE = {
  read() {
    const [view, text = ""] = location.hash.replace(/^#/, "").split("?");
    const query = Object.fromEntries(new URLSearchParams(text));
    const known = ["faces", "face", "rejects"].includes(view) ? view : "faces";
    if (!(query.run in RUNS)) query.run = "0";
    if (!(query.with in RUNS) || query.with === query.run) delete query.with;
    return { view: known, query };
  },
  address(view, query) {
    const fields = Object.entries(query).filter(([, value]) => value !== "" && value != null);
    return `#${view}?${new URLSearchParams(fields)}`;
  },
  go(view, query, { replace = false } = {}) {
    const address = STATE.address(view, query);
    if (address === location.hash) return;
    if (replace) {
      history.replaceState(null, "", address);
      window.dispatchEvent(new HashChangeEvent("hashchange"));
    } else {
      location.hash = address;
    }
  },
};

function showError(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? String(error.message || error) : "";
}

function metricOf(run, name) {
  return RUNS[run].metrics.find((metric) => metric.name === name);
}

function later(milliseconds, call) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), milliseconds);
  };
}

// Without the folders that all names of the run have in common.
function nameOf(face, run) {
  const { prefix } = RUNS[run];
  const text = face.source.startsWith(prefix) ? face.source.slice(prefix.length) : face.source;
  const name = make("bdi", {}, text);
  return face.face ? [name, make("span", { class: "muted" }, `#${face.face}`)] : [name];
}
