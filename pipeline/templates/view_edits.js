"use strict";
// Editing with the hands: sliders, the face beside its photograph, downloads, and the command.

const EDITS = {
  busy: false,
  isWanted: false,
  shown: {},
  target: null,

  setUp() {
    $("sliders").addEventListener("input", (event) => {
      const field = event.target;
      if (field.dataset.role === "strength") {
        for (const twin of field.closest(".slider").querySelectorAll("[data-role=strength]")) {
          if (twin !== field) twin.value = field.value;
        }
      }
      EDITS.changed();
    });
    $("in-photo").addEventListener("change", () => EDITS.changed());
    $("edit-reset").addEventListener("click", () => {
      for (const field of $("sliders").querySelectorAll("input")) {
        field.value = field.dataset.role === "layers" ? "" : 0;
      }
      EDITS.changed();
    });
    $("copy-command").addEventListener("click", () => EDITS.copy());
  },

  async copy() {
    try {
      await navigator.clipboard.writeText($("edit-command").textContent);
      $("copied").textContent = "copied";
    } catch {
      // Without the browser's permission, or over plain HTTP from elsewhere.
      window.getSelection().selectAllChildren($("edit-command"));
      $("copied").textContent = "selected; copy it with Ctrl-C";
    }
    setTimeout(() => { $("copied").textContent = ""; }, 4000);
  },

  ofFace(query, face) {
    const of = { ":of": face.key };
    return { run: query.run, base: `edit/${query.run}/${face.number}`, face, of,
      photo: `photo/${query.run}/${face.number}?${new URLSearchParams(of)}` };
  },

  // A target has addresses of its edits and its photograph; without sliders the photograph remains.
  show(target) {
    const run = RUNS[target.run];
    const isPossible = DATA.canEdit && run.directions.length > 0 && !run.edit_reason;
    $("edits").hidden = !isPossible;
    $("edit-reason").hidden = isPossible || !run.edit_reason;
    $("edit-reason").textContent = run.edit_reason;
    $("edits-title").textContent = isPossible ? "Edit" : "Photograph";
    for (const part of [$("edited-figure"), $("edit-controls")]) part.hidden = !isPossible;
    if (!DATA.canEdit) return;
    const isNew = !EDITS.target || EDITS.target.base !== target.base;
    EDITS.target = target;
    if (isNew) EDITS.showPhoto();
    if (!isPossible) return;
    const { query } = STATE.read();
    $("in-photo").checked = query[`${EDIT}in`] === "photo";
    $("sliders").replaceChildren(...run.directions.map((each) => EDITS.slider(run, each, query)));
    EDITS.changed();
  },

  slider(run, direction, query) {
    const value = Number(query[EDIT + direction.name]) || 0;
    const id = `edit-${direction.name}`;
    const shared = { step: 0.1, min: -direction.furthest, max: direction.furthest, value,
      "data-name": direction.name, "data-role": "strength" };
    const [low, high] = direction.poles;
    return make("div", { class: "slider" },
      make("label", { for: id }, direction.name),
      make("span", { class: "pole" }, low),
      make("span", { class: "zero-marked" }, make("input", { ...shared, type: "range", id })),
      make("span", { class: "pole high" }, high),
      make("input", { ...shared, type: "number", "aria-label": `strength of ${direction.name}` }),
      make("input", { type: "text", class: "layers", "data-name": direction.name,
        "data-role": "layers", placeholder: `layers ${direction.layers}`,
        "aria-label": `layers of ${direction.name}`, pattern: "\\s*(all|own|[0-9,\\s\\-]*)\\s*",
        title: "the styles to move, such as 0-3 or 4,7-9; all; own for what the direction is meant for",
        value: query[`${EDIT}${direction.name}:layers`] || "" }));
  },

  // [name, strength, layers] of each slider that is not at zero; layers may be empty.
  moves() {
    const layers = {};
    for (const field of $("sliders").querySelectorAll("[data-role=layers]")) {
      layers[field.dataset.name] = field.validity.valid ? field.value.trim() : "";
    }
    return [...$("sliders").querySelectorAll("input[type=range]")]
      .filter((field) => Number(field.value))
      .map((field) => [field.dataset.name, field.value, layers[field.dataset.name]]);
  },

  fields() {
    const fields = {};
    for (const [name, strength, layers] of EDITS.moves()) {
      fields[name] = strength;
      if (layers) fields[`${name}:layers`] = layers;
    }
    return fields;
  },

  address(more) {
    const fields = { ...EDITS.fields(), ...EDITS.target.of, ...more };
    return `${EDITS.target.base}?${new URLSearchParams(fields)}`;
  },

  changed() {
    EDITS.keepInAddress();
    $("save-picture").href = EDITS.address({ ":as": "png" });
    $("save-photo").href = EDITS.address({ ":as": "png", ":in": "photo" });
    $("save-latent").href = EDITS.address({ ":as": "npy" });
    $("edit-command").textContent = EDITS.command();
    EDITS.render();
  },

  // Without reading the face again.
  keepInAddress() {
    const { view, query } = STATE.read();
    const kept = Object.fromEntries(Object.entries(query).filter(([key]) => !key.startsWith(EDIT)));
    for (const [key, value] of Object.entries(EDITS.fields())) kept[EDIT + key] = value;
    if ($("in-photo").checked) kept[`${EDIT}in`] = "photo";
    if (view !== "faces") STATE.rename(view, kept);
  },

  command() {
    const { target } = EDITS;
    const run = RUNS[target.run];
    const moves = EDITS.moves();
    const given = moves.length ? moves : [[run.directions[0].name, "0", ""]];
    const words = ["restyle", "edit", target.face ? run.uri : "OUT"];
    for (const [name, strength, layers] of given) {
      const { argument } = run.directions.find((each) => each.name === name);
      words.push("--direction", argument, "--strength", strength, "--layers", layers || "own");
    }
    if (target.face) words.push("--only", target.face.source);
    if (run.edit_model && target.face) words.push("--model", run.edit_model);
    if ($("in-photo").checked) words.push("--paste-back");
    words.push("--out", "EDITS");
    const edit = words.map(quoted).join(" ");
    if (target.face) return edit;
    const invert = ["restyle", "invert", "PHOTOGRAPH", "--out", "OUT", "--model", run.model];
    return `${invert.map(quoted).join(" ")}\n${edit}`;
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
        const pictures = [EDITS.put("edited", EDITS.address({}))];
        if ($("in-photo").checked && EDITS.hasPhoto) {
          pictures.push(EDITS.put("photo", EDITS.address({ ":in": "photo" })));
        } else if (EDITS.hasPhoto && $("photo").dataset.address !== EDITS.target.photo) {
          pictures.push(EDITS.put("photo", EDITS.target.photo));
        }
        await Promise.all(pictures);
      }
      clearTimeout(patience);
      const used = EDITS.moves();
      $("edit-state").textContent = used.length
        ? used.map(([name, value]) => `${name} ${Number(value).toFixed(1)}`).join(", ") : "no edit";
    } catch (error) {
      clearTimeout(patience);
      $("edit-state").textContent = error.message;
    } finally {
      EDITS.busy = false;
    }
  },

  async put(id, address) {
    const image = await DATA.image(address);
    URL.revokeObjectURL(EDITS.shown[id]);
    EDITS.shown[id] = URL.createObjectURL(image);
    $(id).src = EDITS.shown[id];
    $(id).dataset.address = address;
  },

  async showPhoto() {
    const { target } = EDITS;
    EDITS.hasPhoto = false;
    let problem = "";
    try {
      problem = target.face ? await DATA.photoProblem(target) : "";
      if (!problem) await EDITS.put("photo", target.photo);
    } catch (error) {
      problem = error.message;
    }
    if (target !== EDITS.target) return;
    EDITS.hasPhoto = !problem;
    $("photo-state").textContent = problem || "the photograph";
    if (EDITS.hasPhoto) $("edits").hidden = false;
    for (const part of [$("photo"), $("paste-switch"), $("save-photo")]) part.hidden = Boolean(problem);
    if (EDITS.hasPhoto && $("in-photo").checked) EDITS.changed();
  },
};

// A word as a shell takes it.
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`;
}
