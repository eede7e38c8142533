"use strict";
// The rejects of a run.

const REJECTS = {
  asked: 0,

  setUp() {
    const change = () => {
      const { query } = STATE.read();
      STATE.go("rejects", { run: query.run, name: $("reject-name").value, reason: $("reason").value },
        { replace: true });
    };
    $("reject-controls").addEventListener("submit", (event) => event.preventDefault());
    $("reject-name").addEventListener("input", later(200, change));
    $("reason").addEventListener("change", change);
    const turn = (by) => {
      const { query } = STATE.read();
      STATE.go("rejects", { ...query, page: (Number(query.page) || 0) + by || "" });
    };
    $("reject-previous").addEventListener("click", () => turn(-1));
    $("reject-next").addEventListener("click", () => turn(1));
  },

  async load(query) {
    const run = RUNS[query.run];
    const asked = ++REJECTS.asked;
    $("reason").replaceChildren(make("option", { value: "" }, "any"),
      ...run.reasons.map((each) =>
        make("option", { value: each.name }, `${each.title} (${count(each.count)})`)));
    $("reason").value = query.reason || "";
    if (document.activeElement !== $("reject-name")) $("reject-name").value = query.name || "";
    const answer = await DATA.rejects(query);
    if (asked !== REJECTS.asked) return;
    $("reject-controls").hidden = !run.rejects;
    $("reject-box").hidden = !answer.total;
    $("no-rejects").hidden = answer.total > 0;
    $("no-rejects").classList.toggle("good", !run.rejects);
    $("no-rejects").textContent = run.rejects ? "No reject is like that."
      : run.faces ? "None: every input gave a latent." : "None yet: no input has been looked at.";
    $("reject-total").textContent = answer.total ? plural(answer.total, "reject", "rejects") : "";
    $("reject-rows").replaceChildren(...answer.rows.map((row) => make("tr", {},
      make("td", { class: "name", title: row.source }, ...nameOf(row, query.run)),
      make("td", { class: "reason" }, row.title), make("td", {}, row.stage),
      make("td", { class: "message" }, row.message))));
    $("reject-pager").hidden = answer.pages < 2;
    $("reject-page").textContent = `${count(answer.page + 1)} of ${count(answer.pages)}`;
    disable($("reject-previous"), answer.page === 0, $("reject-next"));
    disable($("reject-next"), answer.page + 1 >= answer.pages, $("reject-previous"));
  },
};
