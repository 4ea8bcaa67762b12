// The table of classes: a page of it at a time, so that thousands of them stay quick.

const PAGE_SIZE = 25;

class ClassTable {
  /**
   * `labels` are shown beside the names, and `thumbnails` (URIs or null) before them, each
   * unless it is null. `columns` have a `name`, `value(i)` to sort by and `text(i)` to show of class i, and
   * the direction in which they are sorted `first`. `onSelect(i)`, if given, is called
   * when class i is clicked.
   */
  constructor({ classes, labels, thumbnails }, columns, onSelect) {
    this.names = classes;
    this.labels = labels;
    this.thumbnails = thumbnails;
    this.searched = classes.map((name, i) => searchable(labels ? `${name} ${labels[i]}` : name));
    this.columns = columns;
    this.selected = -1;
    this.page = 0;
    this.found = classes.map((_, i) => i);
    this.table = document.getElementById("classes");
    this.headers = columns.map((column, n) => this.addHeader(column, n));
    this.rows = Array.from({ length: PAGE_SIZE }, () => this.addRow(onSelect));
    this.pages = document.getElementById("page-shown");
    this.turnOn("first-page", () => 0);
    this.turnOn("previous-page", () => this.page - 1);
    this.turnOn("next-page", () => this.page + 1);
    this.turnOn("last-page", () => this.lastPage);
    const search = document.getElementById("search");
    search.addEventListener("input", () => this.search(search.value));
  }

  addHeader(column, n) {
    const header = document.createElement("th");
    header.scope = "col";
    header.setAttribute("role", "columnheader");
    if (n > 0) header.className = "number";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.name;
    button.addEventListener("click", () => this.sortBy(column));
    header.append(button);
    this.table.tHead.rows[0].append(header);
    return header;
  }

  addRow(onSelect) {
    const row = this.table.tBodies[0].insertRow();
    // Narrow screens lay rows out in another way, in which tags lose their roles.
    row.setAttribute("role", "row");
    const header = document.createElement("th");
    header.scope = "row";
    header.setAttribute("role", "rowheader");
    const name = document.createElement(onSelect ? "button" : "span");
    name.className = "name";
    // Names of the user's choice: each in its own direction of writing.
    name.dir = "auto";
    if (onSelect) name.addEventListener("click", () => onSelect(row.shown));
    const image = document.createElement("img");
    image.className = "thumbnail";
    image.alt = "";
    const texts = document.createElement("span");
    texts.className = "texts";
    texts.append(name, document.createElement("small"));
    const parts = document.createElement("div");
    parts.append(image, texts);
    header.append(parts);
    row.append(header);
    for (const _ of this.columns.slice(1)) {
      const cell = row.insertCell();
      cell.className = "number";
      cell.setAttribute("role", "cell");
    }
    return row;
  }

  turnOn(id, page) {
    const button = document.getElementById(id);
    button.addEventListener("click", () => {
      this.page = Math.max(0, Math.min(page(), this.lastPage));
      this.show();
    });
  }

  get lastPage() {
    return Math.max(0, Math.ceil(this.found.length / PAGE_SIZE) - 1);
  }

  sortBy(column) {
    const turned = { ascending: "descending", descending: "ascending" };
    this.direction = column === this.column ? turned[this.direction] : column.first;
    this.column = column;
    this.page = 0;
    this.update();
  }

  search(text) {
    const wanted = searchable(text);
    this.found = [];
    this.searched.forEach((name, i) => {
      if (name.includes(wanted)) this.found.push(i);
    });
    this.page = 0;
    this.update();
  }

  /** Sort again, because the values have changed, and show. */
  update() {
    const values = this.names.map((_, i) => this.column.value(i));
    const sign = this.direction === "ascending" ? 1 : -1;
    this.found.sort((a, b) => sign * (values[a] - values[b]) || a - b);
    this.show();
  }

  show() {
    this.headers.forEach((header, n) => {
      const isSorted = this.columns[n] === this.column;
      header.setAttribute("aria-sort", isSorted ? this.direction : "none");
    });
    const start = this.page * PAGE_SIZE;
    this.rows.forEach((row, n) => this.fill(row, this.found[start + n]));
    const [count, total] = [this.found.length, this.names.length];
    const end = Math.min(start + PAGE_SIZE, count);
    this.pages.textContent = count
      ? `${number(start + 1)} to ${number(end)} of ${number(count)}`
      : "none";
    for (const id of ["first-page", "previous-page"]) disable(id, this.page === 0);
    for (const id of ["next-page", "last-page"]) disable(id, this.page === this.lastPage);
    setText(
      document.getElementById("found"),
      count === total ? `${number(total)} classes` : `${number(count)} of ${number(total)} classes`,
    );
  }

  fill(row, i) {
    row.hidden = i === undefined;
    if (row.hidden) return;
    const name = row.querySelector(".name");
    // Names can be long: they are laid out only when they change.
    if (row.shown !== i) {
      name.textContent = displayed(this.names[i]);
      row.querySelector("small").textContent = this.labels?.[i] ?? "";
      showImage(row.querySelector("img"), this.thumbnails?.[i]);
    }
    row.shown = i;
    if (name.type) name.setAttribute("aria-pressed", i === this.selected);
    this.columns.forEach((column, n) => {
      if (n > 0) setText(row.cells[n], column.text(i));
    });
  }
}

// Letters of which a stroke or another letter is a part, though Unicode parts them not.
const PLAIN = { æ: "ae", ð: "d", đ: "d", ħ: "h", ı: "i", ł: "l", ø: "o", œ: "oe", þ: "th", ŧ: "t" };

/** What of a text counts in a search: neither case, nor accents and other marks. */
function searchable(text) {
  // There and back again: the capitals of ß, and of a final sigma, are those of others.
  const folded = text.normalize("NFKD").toLowerCase().toUpperCase().toLowerCase().normalize("NFKD");
  return folded
    .replace(/(?=\p{Diacritic})\p{M}/gu, "")
    .replace(/[æðđħıłøœþŧ]/g, (letter) => PLAIN[letter])
    // A field of one line has spaces for line breaks.
    .replace(/[ \t\r\n]+/g, " ");
}

function showImage(image, uri) {
  image.hidden = !uri;
  if (uri) image.src = uri;
  else image.removeAttribute("src");
}

function displayed(name) {
  return name || "(empty name)";
}

function number(value) {
  return value.toLocaleString("en");
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function disable(id, isDisabled) {
  // Not the attribute `disabled`, with which a button would lose the keyboard's focus.
  document.getElementById(id).setAttribute("aria-disabled", isDisabled);
}
