// Small helpers: elements by id, values that are only written when they change, and tables whose
// rows stay the same elements, so that a selection or the focus survives an update.

export const $ = (id) => document.getElementById(id);

/** Writes a text, and the exact value for programs. */
export function set(id, text, value) {
  write($(id), text, value);
}

export function write(node, text, value) {
  if (node.textContent !== text) node.textContent = text;
  if (value !== undefined && value !== null && node.value !== String(value)) {
    node.setAttribute("value", value);
  }
}

export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** A table's body. A column has `text(item)`, and perhaps `value(item)`, `share(item)` from 0 to
 * 1, `kind` (a class), `head` (it names the row) and `title(item)`. */
export class Rows {
  constructor(table, keyOf, columns, empty) {
    this.body = $(table).tBodies[0];
    Object.assign(this, { keyOf, columns, empty, rows: new Map() });
  }

  update(items, empty = this.empty) {
    if (items.length === 0) {
      this.rows.clear();
      const cell = make("td", { textContent: empty, colSpan: this.columns.length });
      this.body.replaceChildren(make("tr", { className: "empty" }, cell));
      return;
    }
    this.body.querySelector(".empty")?.remove();
    const before = this.rows;
    this.rows = new Map();
    let place = this.body.firstElementChild;
    for (const item of items) {
      const key = this.keyOf(item);
      if (this.rows.has(key)) continue;
      const row = before.get(key) ?? this.row();
      before.delete(key);
      this.rows.set(key, row);
      this.fill(row, item);
      if (row === place) {
        place = place.nextElementSibling;
      } else {
        this.body.insertBefore(row, place);
      }
    }
    for (const row of before.values()) row.remove();
  }

  row() {
    const row = make("tr");
    for (const column of this.columns) {
      const cell = make(column.head ? "th" : "td", { className: column.kind ?? "" });
      if (column.head) cell.scope = "row";
      if (column.share) {
        cell.classList.add("share");
        cell.append(make("i"), make("span"));
      } else if (column.value) {
        cell.append(make("data"));
      }
      row.append(cell);
    }
    return row;
  }

  fill(row, item) {
    this.columns.forEach((column, at) => {
      const cell = row.children[at];
      if (column.share) cell.firstChild.style.width = `${Math.round(100 * column.share(item))}%`;
      const node = column.share || column.value ? cell.lastChild : cell;
      write(node, column.text(item), column.value?.(item));
      if (column.title) cell.title = column.title(item);
    });
    row.className = this.mark?.(item) ?? "";
  }
}
