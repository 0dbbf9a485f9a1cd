"use strict";
// Asks for the same page again and puts its figures in place; while that fails the old ones stay and say so.

const SECONDS = 10;

async function refresh() {
  const state = document.getElementById("refreshed");
  if (document.hidden) return;
  try {
    const response = await fetch(location.href);
    if (!response.ok) throw new Error(`the service answers ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("figures");
    document.getElementById("figures").replaceWith(document.adoptNode(fresh));
    state.textContent = `Refreshed every ${SECONDS} seconds.`;
    state.className = "soft";
  } catch (error) {
    state.textContent = `These figures are old: ${error.message}.`;
    state.className = "state bad";
  }
}

document.getElementById("refreshed").textContent = `Refreshed every ${SECONDS} seconds.`;
setInterval(refresh, SECONDS * 1000);
