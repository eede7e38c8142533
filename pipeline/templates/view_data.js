"use strict";
// Where the page's data come from: the server, or the script that an export brings.

const PAGE_ROWS = 60;
const REJECT_ROWS = 100;
const DIFFERENCE = "difference:";

// Worst first or best first is largest first or smallest first, by the metric's direction.
function isFalling(query) {
  const name = (query.sort || "").replace(DIFFERENCE, "");
  const metric = metricOf(query.run, name);
  if (!metric) return query.order === "last";
  // Of a difference, another run's value minus this one's, the worst are the other run's losses.
  return (query.order !== "best") === metric.lower;
}

async function answered(response) {
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error || `The server answered ${response.status}.`);
}

class Server {
  canEdit = true;

  async #ask(path, query) {
    const fields = Object.entries(query)
      .filter(([key, value]) => value !== "" && value != null && !key.startsWith(EDIT));
    const response = await answered(await fetch(`${path}?${new URLSearchParams(fields)}`));
    return response.json();
  }

  faces(query) {
    return this.#ask("data/faces", { ...query, order: "", falling: isFalling(query) ? "1" : "" });
  }

  face(query) { return this.#ask("data/face", query); }
  live(run) { return this.#ask("data/live", { run }); }
  newest(run, face) { return `newest/${run}/${face.key}`; }
  rejects(query) { return this.#ask("data/rejects", query); }
  // The key is there for the browser's cache: numbers mean other faces in the next server.
  picture(run, face, step) { return `picture/${run}/${face.number}/${step}?of=${face.key}`; }
  map(kind, run, face, step, scale) {
    return `${kind}/${run}/${face.number}/${step}?scale=${Math.max(scale, 1e-6)}&of=${face.key}`;
  }

  // Why the photograph of a face cannot be shown; empty if it can.
  async photoProblem({ run, face }) {
    return (await this.#ask("data/photo", { run, face: face.key })).problem;
  }

  async image(address) { return (await answered(await fetch(address))).blob(); }

  async upload(run, file) {
    const response = await fetch(`upload?run=${run}`, { method: "POST", body: file });
    return (await answered(response)).json();
  }
}

class Export {
  canEdit = false;
  #runs;

  constructor(runs) {
    this.#runs = runs;
    for (const { faces } of runs) faces.forEach((face, at) => { face.number = at; });
  }

  #other(query, face) {
    if (query.with === "" || query.with == null) return undefined;
    const at = face.others[query.with];
    return at == null ? null : this.#runs[query.with].faces[at];
  }

  async faces(query) {
    const all = this.#runs[query.run].faces;
    const text = (query.name || "").toLowerCase();
    const limits = Object.entries(query)
      .map(([key, value]) => [/^(.+)\.(low|high)$/.exec(key), value])
      .filter(([match, value]) => match && value !== "")
      .map(([match, value]) => [match[1], match[2], Number(value)]);
    const kept = all.filter((face) =>
      face.source.toLowerCase().includes(text) && limits.every(([metric, side, bound]) => {
        const value = face.metrics[metric];
        return value != null && (side === "low" ? value >= bound : value <= bound);
      }));
    const rows = kept.map((face) => ({ ...face, other: this.#other(query, face) }));
    sortRows(rows, query);
    return paged(rows, Number(query.page) || 0, PAGE_ROWS);
  }

  async face(query) {
    const { faces } = this.#runs[query.run];
    const face = faces.find(({ key }) => key === query.face) || faces[query.face];
    if (!face) throw new Error("there is no such face in this export");
    return { ...face, other: this.#other(query, face) };
  }

  async rejects(query) {
    const text = (query.name || "").toLowerCase();
    const rows = this.#runs[query.run].rejects.filter((row) =>
      (!query.reason || row.reason === query.reason) &&
      (row.source.toLowerCase().includes(text) || row.message.toLowerCase().includes(text)));
    return paged(rows, Number(query.page) || 0, REJECT_ROWS);
  }

  picture(run, face, step) {
    const at = step === -1 ? Math.max(...face.pictures) : step;
    return `pictures/${run}-${face.files}-${at}.webp`;
  }

  map(kind, run, face, step) {
    return `pictures/${run}-${face.files}-${kind}-${step === -1 ? "total" : step}.png`;
  }
}

function sortRows(rows, query) {
  const falling = isFalling(query);
  if (!query.sort) {
    if (falling) rows.reverse();
    return;
  }
  const value = (row) => {
    if (query.sort === "source") return row.source;
    if (!query.sort.startsWith(DIFFERENCE)) return row.metrics[query.sort];
    const metric = query.sort.slice(DIFFERENCE.length);
    const [here, there] = [row.metrics[metric], row.other && row.other.metrics[metric]];
    return here == null || there == null ? null : there - here;
  };
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    // What has no value comes last either way.
    if (x == null || y == null) return (x == null) - (y == null);
    const order = x < y ? -1 : x > y ? 1 : 0;
    return falling ? -order : order;
  });
}

function paged(rows, page, most) {
  const pages = Math.max(1, Math.ceil(rows.length / most));
  const at = Math.min(Math.max(page, 0), pages - 1);
  return { total: rows.length, page: at, pages, rows: rows.slice(at * most, (at + 1) * most) };
}

const DATA = typeof EXPORTED === "undefined" ? new Server() : new Export(EXPORTED);
