"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const $ = id => document.getElementById(id);
  const make = (tag, text, more) => Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, more);
  const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 45rem)");
  const state = { data: facts.data[0] || "", models: new Set(facts.models.map(m => m.id)), shown: 5 };

  // Leaderboard: sort (the better first), filter, fold, rank sets of the column that is chosen.
  const board = $("board"), body = board.tBodies[0], lines = [...body.rows];
  const fact = row => facts.board[Number(row.dataset.line)];
  const number = (row, key) => (fact(row).cells[key] || {}).v;
  const heads = [...board.querySelectorAll(".sort")];
  const sort = (key, descending) => {
    const text = key === "name" || key === "data";
    const value = row => key === "name" || key === "data" || key === "context" ? fact(row)[key] : number(row, key);
    const sorted = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = text ? String(x).localeCompare(String(y)) : x - y;
      return descending ? -order : order;
    });
    body.append(...sorted);
    for (const head of heads) {
      if (head.dataset.key === key) head.parentElement.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.parentElement.removeAttribute("aria-sort");
    }
  };
  for (const head of heads) head.addEventListener("click", () => {
    const now = head.parentElement.getAttribute("aria-sort"), key = head.dataset.key;
    const first = !(key === "name" || key === "data" || facts.low.includes(key));
    sort(key, now === null ? first : now === "ascending");
  });
  const rank = key => {
    for (const row of lines) {
      const cell = fact(row).cells[key];
      row.querySelector("td.rank").textContent = cell && cell.r ? cell.r : "–";
    }
  };
  const rankBy = $("rank-by");
  const show = () => {
    const wanted = $("filter").value.toLowerCase();
    let count = 0;
    for (const row of lines) {
      const one = fact(row), fits = `${one.name} ${one.model} ${one.data}`.toLowerCase().includes(wanted);
      row.hidden = !fits || (facts.data.length > 1 && one.data !== state.data && !wanted);
      count += !row.hidden;
    }
    $("shown").textContent = wanted ? `${count} shown` : "";
  };
  if (rankBy.options.length) {
    rankBy.addEventListener("change", () => { rank(rankBy.value); sort(rankBy.value, true); });
    rank(rankBy.value);
    sort(rankBy.value, true);
  }
  $("filter").addEventListener("input", show);
  const opened = new Set();
  const fold = (button, open) => {
    const head = button.parentElement, group = head.dataset.group;
    opened[open ? "add" : "delete"](group);
    board.classList.toggle("dense", opened.size > 0);
    button.setAttribute("aria-expanded", String(open));
    head.colSpan = Number(open ? head.dataset.open : head.dataset.closed);
    const places = [...board.tHead.rows[1].cells].flatMap((cell, place) => cell.dataset.group === group && cell.classList.contains("more") ? [place] : []);
    for (const row of [board.tHead.rows[1], ...lines]) for (const place of places) row.cells[place].classList.toggle("unfolded", open);
  };
  const folds = [...board.querySelectorAll(".fold")];
  for (const button of folds) button.addEventListener("click", () => fold(button, button.getAttribute("aria-expanded") !== "true"));

  // Charts: drawn when they come into view, again when models, data, width or theme change.
  const config = () => {
    const style = getComputedStyle(document.documentElement), of = name => style.getPropertyValue(name).trim();
    const text = { labelColor: of("--ink"), titleColor: of("--ink"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
    return {
      aria: false, background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
      axis: { ...text, gridColor: of("--line"), domainColor: of("--soft"), tickColor: of("--soft") },
      legend: { ...text, columns: narrow.matches ? 1 : 3, symbolSize: 90 }, header: text,
      rule: { color: of("--soft") }, text: { color: of("--ink") },
    };
  };
  const places = [...document.querySelectorAll(".chart")], drawn = new Set();
  const draw = async place => {
    const chart = facts.charts[place.dataset.key], names = facts.columns;
    const rows = chart.rows.filter(row => row[0] === state.data && state.models.has(row[1]));
    place.replaceChildren();
    if (!rows.length) {
      place.append(make("p", chart.rows.some(row => row[0] === state.data) ? "No model is picked." : `Not measured on ${state.data}: run clipbias probe ${chart.probe}.`, { className: "empty" }));
      return;
    }
    const spec = structuredClone(chart.spec), width = place.clientWidth;
    if (spec.facet) {
      spec.columns = width < 500 ? 2 : 4;
      spec.spec.width = Math.max(60, Math.floor((width - 60) / spec.columns) - 24);
    }
    // The legend names who is drawn; colours and marks stay every model's own.
    const named = new Set(rows.map(row => row[2]));
    for (const layer of (spec.spec || spec).layer) for (const part of ["color", "shape"]) {
      const channel = (layer.encoding || {})[part];
      if (channel && channel.field === "name") channel.legend = { ...channel.legend, values: channel.scale.domain.filter(name => named.has(name)) };
    }
    spec.data = { values: rows.map(row => Object.fromEntries(row.map((value, column) => [names[column], value]))) };
    const options = { ast: true, logLevel: 1, renderer: "svg", actions: false, defaultStyle: false, config: config(), tooltip: { disableDefaultStyle: true } };
    const inner = place.appendChild(make("div", undefined, { className: "drawing" }));
    await vegaEmbed(inner, spec, options);
    for (const part of [inner, ...inner.querySelectorAll("[role]")]) for (const name of ["role", "aria-roledescription", "aria-label"]) part.removeAttribute(name);
  };
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) { drawn.add(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  for (const place of places) seen.observe(place);
  const redraw = () => { for (const place of drawn) draw(place); };
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);
  for (const link of document.querySelectorAll(".save")) link.addEventListener("click", () => { link.href = link.closest("details").querySelector("img").src; });

  // The numbers of a chart as a table, for readers who cannot see or hover.
  for (const part of document.querySelectorAll("details.static")) part.addEventListener("toggle", () => {
    const place = part.querySelector(".numbers"), key = part.closest("figure").querySelector(".chart").dataset.key;
    if (!part.open || place.firstChild) return;
    const table = make("table"), head = make("tr");
    for (const words of ["Model", "x", "Condition", "Value", "95% interval", "n"]) head.append(make("th", words, { scope: "col" }));
    table.createTHead().append(head);
    const rows = table.createTBody();
    for (const row of facts.charts[key].rows.filter(r => r[0] === part.dataset.of)) {
      const line = rows.insertRow();
      for (const place of [2, 3, 4, 6, 10, 9]) line.append(make("td", row[place] === null ? "" : String(row[place])));
    }
    place.append(table);
  });

  // Captions: before and after with the change marked, the image, and every model's ranks.
  const browser = $("browser");
  const fell = (one, model) => {
    const of = one.ranks.filter(r => state.models.has(r[0]) && (!model || r[0] === model)).map(r => Math.log(r[2] / r[1]));
    return of.length ? of.reduce((a, b) => a + b) / of.length : -Infinity;
  };
  const marked = (parts, tag) => {
    const out = make("dd");
    for (const [changed, text] of parts) out.append(changed ? make(tag, text) : text, " ");
    return out;
  };
  const article = one => {
    const out = make("article", undefined, { className: "example" });
    out.append(make("h3", `${one.title}: ${one.condition}`));
    out.append(make("img", undefined, { src: facts.images[one.image], alt: "The image that belongs to the caption" }));
    const list = make("dl");
    list.append(make("dt", "Before"), marked(one.before, "del"), make("dt", "After"), marked(one.after, "ins"));
    const table = make("table"), head = make("tr");
    for (const words of ["Model", "Rank before", "Rank after"]) head.append(make("th", words, { scope: "col" }));
    table.createTHead().append(head);
    const rows = table.createTBody();
    for (const [model, before, after] of one.ranks) if (state.models.has(model)) {
      const row = rows.insertRow();
      row.append(make("th", facts.models.find(m => m.id === model).name, { scope: "row" }), make("td", String(before)), make("td", String(after)));
    }
    const wide = make("div", undefined, { className: "wide" });
    wide.append(table);
    out.append(list, wide);
    const picked = one.ranks.filter(r => state.models.has(r[0]) && r[3] != null), instead = make("div", undefined, { className: "instead" });
    for (const image of new Set(picked.map(r => r[3]))) {
      const names = picked.filter(r => r[3] === image).map(r => facts.models.find(m => m.id === r[0]).name);
      const shown = make("figure"), words = make("figcaption", `Ranked first instead by ${names.join(", ")}`);
      shown.append(make("img", undefined, { src: facts.images[image], alt: "The image ranked first instead" }), words);
      instead.append(shown);
    }
    if (instead.firstChild) out.append(instead);
    return out;
  };
  const captions = () => {
    if (!browser) return;
    const probe = $("probe").value, model = $("fall").value, least = Number($("least").value) || 1;
    const mine = facts.examples.filter(one => one.data === state.data && (!probe || one.title === probe) &&
      one.ranks.some(r => state.models.has(r[0]) && (!model || r[0] === model) && r[2] >= least));
    mine.sort((a, b) => fell(b, model) - fell(a, model));
    browser.replaceChildren(...mine.slice(0, state.shown).map(article));
    $("found").textContent = `${Math.min(state.shown, mine.length)} of ${mine.length} captions`;
    $("more").hidden = state.shown >= mine.length;
    if (!mine.length) browser.append(make("p", "No caption fits; widen the filter.", { className: "empty" }));
  };
  if (browser) {
    for (const title of new Set(facts.examples.map(one => one.title))) $("probe").append(new Option(title, title));
    for (const model of facts.models) $("fall").append(new Option(`fall of ${model.name}`, model.id));
    for (const id of ["probe", "fall", "least"]) $(id).addEventListener("input", () => { state.shown = 5; captions(); });
    $("more").addEventListener("click", () => { state.shown += 10; captions(); });
  }

  // A caption token by token: what leaving out each does, for every model that is picked.
  const caption = $("caption");
  const heat = () => {
    const place = $("heat");
    if (!caption) return;
    const mine = facts.heat.filter(one => one.data === state.data), one = mine[Number(caption.value)] || mine[0];
    if (caption.dataset.of !== state.data) {
      caption.replaceChildren(...mine.map((each, n) => new Option(`${n + 1}: ${each.caption.slice(0, 50)} …`, n)));
      caption.dataset.of = state.data;
    }
    place.replaceChildren();
    if (!one) { place.append(make("p", `Not measured on ${state.data}: run clipbias probe influence.`, { className: "empty" })); return; }
    const texts = make("div");
    for (const model of facts.models) {
      const found = one.models[model.id];
      if (!found || !state.models.has(model.id)) continue;
      const head = make("h3", `${model.name} `), text = make("p");
      head.append(make("small", `${found.share}% of the absolute change is in the first sentence`));
      const most = Math.max(...found.tokens.map(t => Math.abs(t[2]))) || 1;
      let at = 0;
      const plain = (begin, end) => { if (end > begin) text.append(make("span", one.caption.slice(begin, end), { className: begin < one.first ? "opening" : "" })); };
      for (const [begin, end, change] of found.tokens) {
        if (end <= at) continue;
        plain(at, begin);
        const token = make("span", one.caption.slice(Math.max(at, begin), end), { className: `token${change < 0 ? " lowers" : ""}${begin < one.first ? " opening" : ""}` });
        token.title = `${change > 0 ? "+" : change < 0 ? "\u2212" : ""}${Math.abs(change).toFixed(2)}`;
        token.style.setProperty("--share", `${Math.round(100 * Math.abs(change) / most)}%`);
        text.append(token);
        at = end;
      }
      if (at < one.caption.length) text.append(make("small", `${one.caption.slice(at)} (cut off by the context)`));
      texts.append(head, text);
    }
    if (!texts.firstChild) texts.append(make("p", "No model is picked, or none was measured.", { className: "empty" }));
    place.append(make("img", undefined, { src: facts.images[one.image], alt: "The image that belongs to the caption" }), texts);
  };
  if (caption) caption.addEventListener("change", heat);

  // What drives all of it.
  const pick = () => {
    for (const part of document.querySelectorAll("div[data-of], details[data-of]")) part.hidden = facts.data.length > 1 && part.dataset.of !== state.data;
    show();
    redraw();
    captions();
    heat();
  };
  if ($("data")) $("data").addEventListener("change", event => { state.data = event.target.value; pick(); });
  const boxes = [...document.querySelectorAll("#models input")];
  const models = () => { state.models = new Set(boxes.filter(b => b.checked).map(b => b.value)); redraw(); captions(); heat(); };
  for (const box of boxes) box.addEventListener("change", models);
  $("all").addEventListener("click", () => { for (const box of boxes) box.checked = true; models(); });
  $("none").addEventListener("click", () => { for (const box of boxes) box.checked = false; models(); });
  addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; for (const button of folds) fold(button, true); });
  addEventListener("afterprint", () => { for (const part of document.querySelectorAll("details")) part.open = false; for (const button of folds) fold(button, false); });
  pick();
})();
