"use strict";
// Asks for the same page again and puts its figures in place; while that fails the old ones stay and say so.

const SECONDS = 10;

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href);
    if (!response.ok) throw new Error(`the service answers ${response.status}`);
    replace(new DOMParser().parseFromString(await response.text(), "text/html").getElementById("figures"));
    say(`Refreshed every ${SECONDS} seconds.`, "soft");
  } catch (error) {
    say(`These figures are old: ${error.message}.`, "state bad");
  }
}

// Tables stay scrolled and focused as they were.
function replace(fresh) {
  const old = document.getElementById("figures");
  const focused = document.activeElement;
  const was = new Map([...old.querySelectorAll(".wide")].map((table) => [table.getAttribute("aria-label"), { table, left: table.scrollLeft }]));
  old.replaceWith(document.adoptNode(fresh));
  for (const table of fresh.querySelectorAll(".wide")) {
    const before = was.get(table.getAttribute("aria-label"));
    if (!before) continue;
    table.scrollLeft = before.left;
    if (before.table === focused) table.focus({ preventScroll: true });
  }
}

function say(text, className) {
  const state = document.getElementById("refreshed");
  if (state.textContent !== text) Object.assign(state, { textContent: text, className }); // said once, not every ten seconds
}

say(`Refreshed every ${SECONDS} seconds.`, "soft");
setInterval(refresh, SECONDS * 1000);
