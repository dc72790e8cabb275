"use strict";
(() => {
  const said = document.getElementById("said");
  const collator = new Intl.Collator(undefined, { numeric: true });

  // Sorting: rows keep their first order as a third state.
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const cycle = numeric ? ["descending", "ascending", null] : ["ascending", "descending", null];
        const next = cycle[(cycle.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        let order = rows;
        if (next) {
          head.setAttribute("aria-sort", next);
          const sign = next === "ascending" ? 1 : -1;
          const keyed = rows.map((row) => {
            const text = row.cells[column].dataset.v;
            return { row, known: text !== "", key: numeric ? parseFloat(text) : text };
          });
          const compare = numeric ? (a, b) => a.key - b.key : (a, b) => collator.compare(a.key, b.key);
          const known = keyed.filter((one) => one.known).sort((a, b) => sign * compare(a, b));
          order = known.concat(keyed.filter((one) => !one.known)).map((one) => one.row);
        }
        const sorted = document.createDocumentFragment();
        sorted.append(...order);
        body.append(sorted);
        said.textContent = next ? `Sorted by ${head.querySelector("button").textContent.trim()}, ${next}.` : "In the first order again.";
      });
    });
  }

  // On a phone every cell carries its heading, and the style sheet makes a card of each row.
  const narrow = window.matchMedia("(max-width: 37.5rem)");
  const label = () => {
    if (!narrow.matches) return;
    for (const table of document.querySelectorAll("table.sortable:not(.labelled)")) {
      const heads = Array.from(table.tHead.rows[0].cells, (head) => head.querySelector("button").textContent.trim());
      for (const row of table.tBodies[0].rows) {
        for (let i = 1; i < heads.length; i += 1) row.cells[i].dataset.l = heads[i];
      }
      table.classList.add("labelled");
    }
  };
  narrow.addEventListener("change", label);
  label();

  for (const input of document.querySelectorAll("input[data-filter]")) {
    const rows = Array.from(document.getElementById(input.dataset.filter).tBodies[0].rows);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !wanted.every((word) => texts[i].includes(word));
        shown += row.hidden ? 0 : 1;
      });
      said.textContent = `${shown} rows shown.`;
    });
  }

  // The table of contents follows the reader.
  const links = new Map(Array.from(document.querySelectorAll("nav a"), (a) => [a.getAttribute("href").slice(1), a]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        links.forEach((a) => a.classList.remove("here"));
        const link = links.get(entry.target.id);
        if (link) link.classList.add("here");
      }
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main section").forEach((section) => watcher.observe(section));

  // Items. All text from models and data sets goes through textContent: it is never read as markup.
  const data = document.getElementById("item-data");
  if (!data) return;
  const items = JSON.parse(data.textContent);
  const view = document.getElementById("item-view");
  const pick = document.getElementById("item-pick");
  const make = (tag, kind, text) => {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const block = (parent, title, text, kind, level) => {
    if (!text) return;
    parent.append(make(level || "h3", "", title), make("div", `texts ${kind || ""}`, text));
  };
  const output = (one) => {
    const card = make("article", "output");
    card.append(make("h3", "", one.candidate));
    const scores = make("ul", "scores");
    for (const [name, value] of Object.entries(one.scores)) {
      const entry = make("li", "", `${name} `);
      entry.append(make("b", "", String(value)));
      scores.append(entry);
    }
    card.append(scores);
    block(card, `Trace (${one.status})`, one.trace, "trace", "h4");
    block(card, "Answer", one.answer || "(empty)", "", "h4");
    card.append(make("p", "note", `${one.log}, epoch ${one.epoch}`));
    return card;
  };
  const show = (told) => {
    const item = items[pick.selectedIndex];
    if (told) said.textContent = `Item ${pick.selectedIndex + 1} of ${items.length}.`;
    view.replaceChildren();
    block(view, "Prompt", item.prompt);
    block(view, "Target", item.target);
    block(view, "Reference", item.reference);
    const outputs = make("div", "outputs");
    item.outputs.forEach((one) => outputs.append(output(one)));
    view.append(outputs);
  };
  items.forEach((item, i) => {
    const option = make("option", "", `${i + 1} · ${item.task} · ${item.why} · ${item.id}`);
    option.value = String(i);
    pick.append(option);
  });
  const step = (by) => { pick.selectedIndex = (pick.selectedIndex + by + items.length) % items.length; show(true); };
  pick.addEventListener("change", () => show(true));
  document.getElementById("item-prev").addEventListener("click", () => step(-1));
  document.getElementById("item-next").addEventListener("click", () => step(1));
  document.getElementById("browser").hidden = false;
  show(false);
})();
