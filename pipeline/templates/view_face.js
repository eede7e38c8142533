"use strict";
// One face: its steps with a slider, maps of what changed, metrics, and edits that are rendered.

const FACE = {
  asked: 0,
  shown: null,
  order: "",
  neighbours: [],

  setUp() {
    $("step").addEventListener("input", () => FACE.toStep(Number($("step").value)));
    $("face-previous").addEventListener("click", () => FACE.toNeighbour(-1));
    $("face-next").addEventListener("click", () => FACE.toNeighbour(1));
  },

  async load(query) {
    const asked = ++FACE.asked;
    FACE.standAt(query);
    const face = await DATA.face(query);
    if (asked !== FACE.asked) return;
    const sides = [{ run: query.run, face }];
    if (query.with) sides.push({ run: query.with, face: face.other });
    FACE.shown = { query, sides, steps: FACE.stepsOf(sides) };
    $("back").href = STATE.address("faces", { ...query, face: "" });
    $("face-name").replaceChildren(...nameOf(face, query.run));
    $("face-name").title = face.source;
    const scale = Math.max(...sides.map((side) => (side.face ? side.face.scale : 0)));
    FACE.shown.scale = scale;
    $("scale").textContent = String(Number(scale.toPrecision(3)));
    $("legend").hidden = !scale;
    $("columns").classList.toggle("beside-two", sides.length > 1);
    $("columns").replaceChildren(...sides.map((side) => FACE.column(side)));
    const { steps } = FACE.shown;
    $("stepper").hidden = !steps.length;
    $("step").max = Math.max(steps.length - 1, 0);
    FACE.toStep(steps.length - 1);
    FACE.table(sides);
    EDITS.show(query, face);
    await FACE.findNeighbours(query, asked);
  },

  named(run, step) {
    const name = RUNS[run].names[step];
    return name ? `, ${name}` : "";
  },

  stepsOf(sides) {
    const all = sides.flatMap((side) => (side.face ? side.face.pictures : []));
    return [...new Set(all)].sort((a, b) => a - b);
  },

  column(side) {
    const title = make("h3", {}, RUNS[side.run].name);
    const isBeside = FACE.shown.sides.length > 1;
    if (!side.face) {
      return make("div", { class: "column" }, title,
        make("p", { class: "empty" }, "This face is not in that run."));
    }
    if (!side.face.pictures.length) {
      return make("div", { class: "column" }, isBeside ? title : null, make("p", { class: "empty" },
        "No pictures were kept. Run with --reconstructions last or all to see them here."));
    }
    const figure = (kind, caption) => make("figure", { class: kind },
      make("img", { width: 256, height: 256, alt: "" }), make("figcaption", {}, caption));
    const input = side.face.pictures[0] === 0 ? figure("input", "input") : null;
    if (input) {
      input.firstChild.src = DATA.picture(side.run, side.face, 0);
      input.firstChild.alt = "aligned input";
    }
    side.step = figure("step", "");
    side.change = figure("change", "");
    return make("div", { class: "column" }, isBeside ? title : null,
      make("div", { class: "frames" }, input, side.step, side.change));
  },

  toStep(at) {
    const { sides, steps, scale } = FACE.shown;
    const index = Math.min(Math.max(at, 0), steps.length - 1);
    if (!steps.length) return;
    const step = steps[index];
    $("step").value = index;
    const name = step === 0 ? "0, the input" : `${step} of ${RUNS[sides[0].run].steps}${FACE.named(sides[0].run, step)}`;
    $("step-name").textContent = name;
    $("step").setAttribute("aria-valuetext", name);
    FACE.shown.at = index;
    for (const side of sides) {
      if (!side.step) continue;
      FACE.drawStep(side, step);
      FACE.drawChange(side, step, scale);
    }
    for (const row of $("step-table").querySelectorAll("tr[data-step]")) {
      row.classList.toggle("current", Number(row.dataset.step) === step);
    }
  },

  drawStep(side, step) {
    const [image, caption] = side.step.children;
    const last = Math.max(...side.face.pictures);
    // A run with fewer steps beside one with more stays at its last.
    const shown = step > last && last > 0 ? last : step;
    const isThere = side.face.pictures.includes(shown);
    image.hidden = !isThere;
    if (isThere) image.src = DATA.picture(side.run, side.face, shown);
    const named = FACE.named(side.run, shown);
    image.alt = shown === 0 ? "aligned input" : `reconstruction after step ${shown}${named}`;
    caption.textContent = !isThere ? `step ${shown} was not kept`
      : shown === 0 ? "input" : shown < step ? `step ${shown}, the last one` : `step ${shown}${named}`;
  },

  drawChange(side, step, scale) {
    const [image, caption] = side.change.children;
    const isThere = side.face.changes.includes(step);
    image.hidden = !isThere;
    if (isThere) image.src = DATA.change(side.run, side.face, step, scale);
    image.alt = `what step ${step} changed`;
    caption.textContent = isThere ? `changed by step ${step}`
      : step === 0 || step > Math.max(...side.face.pictures) ? ""
        : side.face.changes.length ? "no step before to compare with"
          : "no pictures of two steps in a row";
  },

  table(sides) {
    const there = sides.filter((side) => side.face && side.face.steps.length);
    $("numbers").hidden = !there.length;
    if (!there.length) return;
    const names = Object.keys(there[0].face.steps[0])
      .filter((name) => there.some((side) => side.face.steps.some((row) => row[name] != null)));
    const titles = names.map((name) => {
      const metric = RUNS[there[0].run].metrics.find((each) => each.name === name);
      return metric ? metric.title : name === "delta" ? "change" : name;
    });
    const head = make("tr", {}, make("th", { scope: "col" }, "step"));
    for (const side of there) {
      for (const title of titles) {
        const full = there.length > 1 ? `${title}, ${RUNS[side.run].name}` : title;
        head.append(make("th", { scope: "col", class: "value" }, full));
      }
    }
    const most = Math.max(...there.map((side) => side.face.steps.length));
    const rows = Array.from({ length: most }, (_, index) => make("tr", { "data-step": index + 1 },
      make("th", { scope: "row" }, String(index + 1)),
      ...there.flatMap((side) => names.map((name) => make("td", { class: "value" },
        number((side.face.steps[index] || {})[name]))))));
    $("step-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
    FACE.toStep(FACE.shown.at ?? 0);
  },

  // Neighbours in the order of the gallery that the face was opened from.
  async findNeighbours(query, asked) {
    const page = Number(query.page) || 0;
    const around = [];
    for (const at of [page - 1, page, page + 1]) {
      if (at < 0) continue;
      const answer = await DATA.faces({ ...query, face: "", page: at });
      if (answer.page === at) around.push(...answer.rows.map((row) => [row.number, at]));
    }
    if (asked !== FACE.asked) return;
    FACE.neighbours = around;
    FACE.standAt(query);
  },

  // Among the neighbours that are known, which hold until others are: keys may be faster than those.
  standAt(query) {
    const order = JSON.stringify({ ...query, face: "", page: "" });
    if (order !== FACE.order) FACE.neighbours = [];
    FACE.order = order;
    const at = FACE.neighbours.findIndex(([each]) => each === Number(query.face));
    FACE.place = at;
    $("face-previous").disabled = at <= 0;
    $("face-next").disabled = at < 0 || at + 1 >= FACE.neighbours.length;
  },

  toNeighbour(by) {
    const next = FACE.place >= 0 ? FACE.neighbours[FACE.place + by] : undefined;
    if (!next) return;
    const [face, page] = next;
    STATE.go("face", { ...STATE.read().query, face, page: page || "" }, { replace: true });
  },
};

const EDITS = {
  busy: false,
  isWanted: false,
  address: "",

  setUp() {
    $("sliders").addEventListener("input", (event) => {
      const field = event.target;
      for (const twin of field.closest(".slider").querySelectorAll("input")) {
        if (twin !== field) twin.value = field.value;
      }
      EDITS.render();
    });
    $("edit-reset").addEventListener("click", () => {
      for (const field of $("sliders").querySelectorAll("input")) field.value = 0;
      EDITS.render();
    });
  },

  show(query, face) {
    const run = RUNS[query.run];
    const isPossible = DATA.canEdit && run.directions.length > 0 && !run.edit_reason;
    $("edits").hidden = !isPossible;
    $("edit-reason").hidden = isPossible || !run.edit_reason;
    $("edit-reason").textContent = run.edit_reason;
    if (!isPossible) return;
    EDITS.face = { run: query.run, number: face.number };
    const kept = EDITS.strengths();
    $("sliders").replaceChildren(...run.directions.map((direction) => {
      const shared = { step: 0.1, min: -run.furthest, max: run.furthest,
        value: kept[direction.name] || 0, "data-name": direction.name };
      const id = `edit-${direction.name}`;
      return make("div", { class: "slider" }, make("label", { for: id }, direction.name),
        make("input", { ...shared, type: "range", id }),
        make("input", { ...shared, type: "number", "aria-label": `strength of ${direction.name}` }));
    }));
    EDITS.render();
  },

  strengths() {
    const found = {};
    for (const field of $("sliders").querySelectorAll("input[type=range]")) {
      if (Number(field.value)) found[field.dataset.name] = field.value;
    }
    return found;
  },

  // One at a time: what was asked for meanwhile is rendered next, what lies between never.
  async render() {
    EDITS.isWanted = true;
    if (EDITS.busy) return;
    EDITS.busy = true;
    const patience = setTimeout(() => { $("edit-state").textContent = "rendering …"; }, 400);
    try {
      while (EDITS.isWanted) {
        EDITS.isWanted = false;
        const { run, number: face } = EDITS.face;
        const image = await DATA.edit(run, face, EDITS.strengths());
        URL.revokeObjectURL(EDITS.address);
        EDITS.address = URL.createObjectURL(image);
        $("edited").src = EDITS.address;
      }
      clearTimeout(patience);
      const used = Object.entries(EDITS.strengths());
      $("edit-state").textContent = used.length
        ? used.map(([name, value]) => `${name} ${Number(value).toFixed(1)}`).join(", ") : "no edit";
    } catch (error) {
      clearTimeout(patience);
      $("edit-state").textContent = error.message;
    } finally {
      EDITS.busy = false;
    }
  },
};
