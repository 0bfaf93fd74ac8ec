"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// The theme.
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// A link into a folded part opens it.
const unfold = (element) => {
  for (let one = element; one; one = one.parentElement) if (one.matches("details.part")) one.open = true;
};
const follow = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) { unfold(target); target.scrollIntoView(); }
};
addEventListener("hashchange", follow);
follow();

// What a part of a figure says is shown at once, instead of after the browser's delay.
const tip = document.getElementById("tip");
for (const title of all("figure svg title")) {
  title.parentElement.dataset.says = title.textContent;
  title.remove();
}
let pointed = null;
const point = (event) => {
  const part = event.target.closest ? event.target.closest("[data-says]") : null;
  if (pointed) pointed.classList.remove("pointed");
  pointed = part;
  tip.hidden = !part;
  if (!part) return;
  if (part.tagName === "use") part.classList.add("pointed");
  tip.textContent = part.dataset.says;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(4, Math.min(event.pageX + 12, room))}px`;
  tip.style.top = `${event.pageY + 16}px`;
};
document.addEventListener("pointermove", point);
document.addEventListener("pointerdown", point);

// Tables are sorted by a column.
const value = (row, column) => {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace(/^[^\d+.-]*(?=[\d.])/, "").replace(/,/g, ""));
  return { text, number };
};
for (const table of all("table")) {
  const body = table.tBodies[0];
  all("thead th", table).forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => ({ row, ...value(row, column) }));
    const numeric = rows.filter((one) => !Number.isNaN(one.number)).length >= rows.length / 2;
    const sign = down ? -1 : 1;
    rows.sort((a, b) => {
      if (!numeric) return sign * a.text.localeCompare(b.text);
      const [first, second] = [Number.isNaN(a.number), Number.isNaN(b.number)];
      return first || second ? first - second : sign * (a.number - b.number); // what is no number comes last
    });
    body.append(...rows.map((one) => one.row));
  }));
}

// Rows and columns of tables are about tasks and methods too.
const tools = document.getElementById("tools");
tools.hidden = false;
const choices = { task: new Set(), method: new Set() };
for (const of of ["task", "method"]) {
  for (const box of all(`fieldset[data-of=${of}] input`)) choices[of].add(box.value);
}
for (const table of all("table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const name = head.textContent.trim();
    if (choices.method.has(name)) for (const row of table.rows) row.cells[column].dataset.method = name;
    if (name === "task" || name === "method") for (const row of table.tBodies[0].rows) {
      row.dataset[name] = row.cells[column].textContent.trim();
    }
  });
}

// The search finds rows, figures and texts everywhere, and opens what is folded; what has no match is hidden.
const found = new Map();
for (const item of all("tbody tr, figure, main p, main pre")) {
  const said = all("[data-says]", item).map((one) => one.dataset.says).join(" ");
  found.set(item, `${item.textContent} ${said}`.toLowerCase());
}
const headings = new Map(all(".part").map((part) => [part, part.querySelector("h2, h3, h4").textContent.toLowerCase()]));
const opened = new Set();
const input = tools.querySelector("input[type=search]");
const update = () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = {};
  for (const of of ["task", "method"]) {
    const boxes = all(`fieldset[data-of=${of}] input`);
    chosen[of] = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  }
  const out = (element) => ["task", "method"].some((of) => {
    const name = element.dataset[of];
    return name !== undefined && choices[of].has(name) && !chosen[of].has(name);
  });
  const above = (element) => {
    let names = "";
    for (let part = element.closest(".part"); part; part = part.parentElement.closest(".part")) names += ` ${headings.get(part)}`;
    return names;
  };
  for (const element of all("[data-task], [data-method]")) {
    if (element.closest("svg")) element.classList.toggle("faded", out(element));
    else element.hidden = out(element);
  }
  let rows = 0, tables = new Set(), other = 0;
  for (const [item, text] of found) {
    const match = words.every((word) => text.includes(word) || above(item).includes(word));
    item.hidden = out(item) || !match;
    if (item.hidden || !words.length) continue;
    if (item.tagName === "TR") { rows += 1; tables.add(item.closest("table")); } else if (!item.matches(".table p")) other += 1;
  }
  for (const table of all(".table")) table.hidden = words.length > 0 && !table.querySelector("tbody tr:not([hidden])");
  for (const part of all(".part").reverse()) {
    const shown = !words.length || all("tbody tr, figure, p:not(.table p), pre", part).some((one) => !one.hidden);
    part.hidden = out(part) || !shown;
    if (part.matches("details") && words.length && shown && !part.open) { part.open = true; opened.add(part); }
    if (!words.length && opened.delete(part)) part.open = false;
  }
  tools.querySelector("output").textContent = words.length
    ? `${rows} row${rows === 1 ? "" : "s"} in ${tables.size} table${tables.size === 1 ? "" : "s"}, ${other} figure${other === 1 ? "" : "s"} and texts`
    : "";
};
tools.addEventListener("input", update);

// Figures are saved as SVG or PNG.
const offer = (url, name) => {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
};
for (const button of all("figure button")) button.addEventListener("click", () => {
  const figure = button.closest("figure");
  const svg = figure.querySelector("svg").cloneNode(true);
  const [width, height] = [Number(svg.dataset.width), Number(svg.dataset.height)];
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.style.color = "#000";
  const source = new XMLSerializer().serializeToString(svg);
  const url = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(source);
  if (button.dataset.form === "svg") return offer(url, figure.id + ".svg");
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [3 * width, 3 * height];
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    offer(canvas.toDataURL("image/png"), figure.id + ".png");
  };
  image.src = url;
});
