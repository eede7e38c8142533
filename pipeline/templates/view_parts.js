"use strict";
// Small parts of the page. Text is only ever set as text, never as HTML.

const RUNS = JSON.parse(document.getElementById("runs").textContent);
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

// The state of the page stands in its address, so that going back and bookmarks work. Fields that
// begin with "edit:" are strengths and layers of the sliders.
const VIEWS = ["faces", "face", "rejects", "upload"].filter((name) => $(`${name}-view`));
const EDIT = "edit:";

const STATE = {
  read() {
    const [view, text = ""] = location.hash.replace(/^#/, "").split("?");
    const query = Object.fromEntries(new URLSearchParams(text));
    const known = VIEWS.includes(view) ? view : "faces";
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
  // Another address of what is shown.
  rename(view, query) {
    const [address, before] = [STATE.address(view, query), location.hash];
    if (address === before) return;
    history.replaceState(null, "", address);
    if (document.body.dataset.shown === before) document.body.dataset.shown = address;
  },
  // Without what only concerns one face.
  ofGallery(query) {
    const kept = Object.entries(query).filter(([key]) => !key.startsWith(EDIT) && key !== "face");
    return Object.fromEntries(kept);
  },
};

function showError(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? String(error.message || error) : "";
}

function metricOf(run, name) {
  return RUNS[run].metrics.find((metric) => metric.name === name);
}

// "better", "worse" or "" for a value beside another one of the same metric.
function verdict(metric, here, there) {
  if (!metric || here == null || there == null || here === there) return "";
  return (there < here) === metric.lower ? "better" : "worse";
}

function marked(metric, here, there) {
  const kind = verdict(metric, here, there);
  const sign = { better: "▲", worse: "▼" }[kind];
  return make("span", { class: kind }, number(there),
    sign ? make("span", { class: "sign", role: "img", "aria-label": kind, title: kind }, ` ${sign}`) : null);
}

function later(milliseconds, call) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), milliseconds);
  };
}

// What has the keyboard's focus keeps it when it can do no more: the other one gets it.
function disable(button, isDisabled, other) {
  const hadFocus = document.activeElement === button;
  button.disabled = isDisabled;
  if (hadFocus && isDisabled && !other.disabled) other.focus();
}

// Without the folders that all names of the run have in common.
function nameOf(face, run) {
  const { prefix } = RUNS[run];
  const text = face.source.startsWith(prefix) ? face.source.slice(prefix.length) : face.source;
  const name = make("bdi", {}, text);
  return face.face ? [name, make("span", { class: "muted" }, `#${face.face}`)] : [name];
}
