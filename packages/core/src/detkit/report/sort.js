// Sorts a table by the column whose name is clicked: numbers from the greatest on, names from A on, then the other way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const numbers = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const order = before ? (before === "ascending" ? "descending" : "ascending") : numbers ? "descending" : "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => (numbers ? parseFloat(row.cells[column].textContent) : row.cells[column].textContent);
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [one, other] = [value(a), value(b)];
        if (!numbers) return sign * one.localeCompare(other, undefined, { numeric: true });
        if (isNaN(one) || isNaN(other)) return isNaN(one) - isNaN(other);
        return sign * (one - other);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
