"use strict";
// The storefront: asks the public API as a shop's front end would. All text goes into the page as text, never as HTML.

const K = 12; // places of a shelf
const SESSION = 50; // newest acts that are told with a request; the log knows them too
const SHELVES = { home: "Home", product: "Goes with it", basket: "Goes with your basket" };
const $ = (id) => document.getElementById(id);
const shop = { user: null, clock: 0, last: 0, view: null, items: new Map(), before: new Map(), asked: 0 };

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function button(text, label, act, className = "") {
  const node = make("button", { type: "button", textContent: text, className });
  node.setAttribute("aria-label", label);
  node.addEventListener("click", async () => {
    if (node.busy) return; // a second click is no second purchase
    node.busy = true;
    await attempt(act);
    node.busy = false;
  });
  return node;
}

async function attempt(act) {
  try {
    $("problem").hidden = true;
    await act();
  } catch (error) {
    $("problem").textContent = error.message;
    $("problem").hidden = false;
  }
}

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The service does not answer. Is it up?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error([answer.detail, answer.action].filter(Boolean).join(" "));
  return answer;
}

function moment() {
  shop.last = Math.max(Date.now() + shop.clock, shop.last + 1); // by the service's clock; no two acts at once
  return new Date(shop.last).toISOString();
}

function name() {
  const bytes = crypto.getRandomValues(new Uint8Array(12)); // randomUUID is missing where the page is served without TLS
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const money = (price) => (price === null ? "no price" : price.toFixed(2));
const short = (id) => `${id.slice(0, 12)}…`;

function enter(user, label) {
  Object.assign(shop, { user, session: [], basket: new Map(), led: new Map(), before: new Map() });
  $("current").textContent = `Shopping as ${label}.`;
  $("shop").hidden = false;
  $("session").replaceChildren();
  $("said").textContent = "";
  return open({ surface: "home" });
}

// One view is open at a time and only its shelf is asked for, so that the log says shown of nothing that nobody saw.
async function open(view) {
  shop.view = view;
  const label = document.activeElement.getAttribute("aria-label");
  $("home").toggleAttribute("aria-current", view.surface === "home");
  $("basket").toggleAttribute("aria-current", view.surface === "basket");
  $("basket").textContent = `Basket (${shop.basket.size})`;
  drawItem();
  drawBasket();
  await ask();
  focusAgain(label);
}

// Whoever uses the keyboard goes on where they were: at the same button, or where it is gone at the heading of what came.
function focusAgain(label) {
  if (document.activeElement !== document.body) return;
  const same = label && document.querySelector(`#shop [aria-label="${CSS.escape(label)}"]:not(:disabled)`);
  if (same) same.focus({ preventScroll: true });
  else (shop.view.item ? $("item").querySelector("h2") : $("shelf-title")).focus();
}

async function ask() {
  const view = shop.view;
  const turn = ++shop.asked;
  const session = shop.session.slice(-SESSION);
  const context = view.item ? { item_id: view.item } : {};
  const answer = await call("/v1/recommendations", { user_id: shop.user, surface: view.surface, k: K, session, context, explain: true });
  await learn(answer.items.flatMap((place) => [place.item_id, ...place.reasons.map((reason) => reason.item_id)]));
  if (turn !== shop.asked) return; // a newer answer is on its way
  drawShelf(answer);
  await inspect(answer);
}

async function learn(ids) {
  const wanted = [...new Set(ids)].filter((id) => id && !shop.items.has(id)).slice(0, 100);
  if (!wanted.length) return;
  const query = new URLSearchParams(wanted.map((id) => ["id", id]));
  for (const item of await call(`/shop/items?${query}`)) shop.items.set(item.item_id, item);
}

// `request` is the answer whose shelf the act is done on; later acts on the same item belong to that answer too.
async function act(type, ids, { request, surface = shop.view.surface } = {}) {
  const events = ids.map((id) => {
    if (request) shop.led.set(id, request);
    const about = { user_id: shop.user, item_id: id, surface, request_id: shop.led.get(id) || null };
    const event = { event_id: `shop-${name()}`, type, time: moment(), ...about };
    return type === "purchase" ? { ...event, quantity: 1, price: shop.items.get(id).price } : event;
  });
  const answer = await call("/v1/events", events);
  if (answer.rejected.length) throw new Error(`Rejected: ${answer.rejected[0].reason}`);
  for (const { item_id, time, event_id, request_id } of events) {
    shop.session.push({ item_id, type, time });
    const after = request_id ? `, answer ${short(request_id)}` : "";
    const line = make("li", { textContent: `${type} ${shop.items.get(item_id).title} ` }, make("small", { textContent: `${event_id}${after}` }));
    line.dataset.event = event_id;
    $("session").prepend(line);
  }
  $("said").textContent = `${type}: ${answer.accepted} stored.`;
}

async function look(id, request) {
  await act("click", [id], { request });
  await act("view", [id], { surface: "product" });
  await open({ surface: "product", item: id });
}

async function put(id, request) {
  await act("cart", [id], { request });
  shop.basket.set(id, (shop.basket.get(id) || 0) + 1);
  await open(shop.view);
}

async function buy(ids) {
  await act("purchase", ids);
  ids.forEach((id) => shop.basket.delete(id));
  await open({ surface: "home" });
}

function buying(text, label, ids) {
  const node = button(text, label, () => buy(ids), "main");
  node.disabled = !ids.length || ids.some((id) => shop.items.get(id).price === null); // a purchase must have a price
  if (node.disabled) node.title = "The catalogue has no price, and a purchase must have one.";
  return node;
}

function drawShelf(answer) {
  const key = shop.view.surface + (shop.view.item || "");
  const before = shop.before.get(key);
  const ids = answer.items.map((place) => place.item_id);
  shop.before.set(key, ids);
  const fresh = before ? ids.filter((id) => !before.includes(id)).length : 0;
  $("shelf-title").textContent = SHELVES[shop.view.surface];
  $("shelf-says").textContent = !ids.length ? "Nothing to show." : before ? `${fresh} new of ${ids.length} since the last answer here.` : `${ids.length} items.`;
  $("fallback").hidden = !answer.fallback;
  $("fallback").textContent = `Fallback: ${answer.fallback_reason}. This shelf is worse than it should be.`;
  $("shelf").dataset.request = answer.request_id;
  $("shelf").replaceChildren(...answer.items.map((place) => card(place, before, answer.request_id)));
}

function card(place, before, request) {
  const item = shop.items.get(place.item_id);
  const was = before ? before.indexOf(place.item_id) + 1 : place.rank;
  const moved = was - place.rank;
  const title = button(item.title, `Look at ${item.title}`, () => look(item.item_id, request), "title");
  const badges = make("div", { className: "badges" }, make("small", { textContent: `#${place.rank}` }));
  if (!was) badges.append(make("span", { className: "state new", textContent: "new" }));
  if (was && moved) {
    const mark = make("span", { className: "state", textContent: moved > 0 ? `▲ ${moved}` : `▼ ${-moved}`, role: "img" });
    mark.setAttribute("aria-label", `${Math.abs(moved)} places ${moved > 0 ? "up" : "down"}`);
    badges.append(mark);
  }
  if (shop.basket.has(item.item_id)) badges.append(make("span", { className: "state good", textContent: "in the basket" }));
  const reasons = make("ul", {}, ...place.reasons.map((reason) => make("li", { textContent: why(reason) })));
  const add = button("Add to basket", `Add to basket: ${item.title}`, () => put(item.item_id, request));
  const hide = button("Hide", `Hide: ${item.title}`, async () => {
    await act("dismiss", [item.item_id], { request });
    await open(shop.view);
  });
  const node = make("li", { className: was ? "card" : "card fresh" }, badges, title, facts(item), reasons, make("div", { className: "row" }, add, hide));
  node.dataset.item = item.item_id;
  return node;
}

function why(reason) {
  const about = reason.item_id && shop.items.get(reason.item_id);
  return !about || reason.text.includes(about.title) ? reason.text : `${reason.text} (${about.title})`;
}

function facts(item) {
  const price = make("span", { className: "price", textContent: money(item.price) });
  return make("div", { className: "facts" }, make("small", { textContent: item.category || item.item_id }), price);
}

function drawItem() {
  $("item").hidden = !shop.view.item;
  if (!shop.view.item) return;
  const item = shop.items.get(shop.view.item);
  const row = make("div", { className: "row" });
  row.append(button("Add to basket", `Add to basket: ${item.title}`, () => put(item.item_id)), buying("Buy now", `Buy now: ${item.title}`, [item.item_id]));
  $("item").replaceChildren(make("h2", { textContent: item.title, tabIndex: -1 }), facts(item), row);
}

function drawBasket() {
  $("contents").hidden = shop.view.surface !== "basket";
  const ids = [...shop.basket.keys()];
  const lines = ids.map((id) => make("li", { textContent: `${shop.items.get(id).title}, ${money(shop.items.get(id).price)} ` }));
  const list = ids.length ? make("ul", {}, ...lines) : make("p", { className: "soft", textContent: "The basket is empty." });
  $("contents").replaceChildren(make("h2", { textContent: "Your basket" }), list, buying("Buy all", "Buy all", ids));
}

async function inspect(answer) {
  let logged;
  try {
    logged = await call(`/shop/requests/${encodeURIComponent(answer.request_id)}`);
  } catch (error) { // the answer stands, its log row does not
    const id = make("p", { textContent: answer.request_id });
    $("inspector").replaceChildren(id, make("p", { className: "note bad", textContent: error.message }));
    return;
  }
  if (answer.request_id !== $("shelf").dataset.request) return;
  const told = { Request: logged.request_id, Shown: `${logged.time.slice(0, 19).replace("T", " ")} UTC`, Surface: logged.surface, Policy: logged.policy };
  Object.assign(told, { Model: logged.model_version, "Data set": logged.dataset_version || "none", Fallback: logged.fallback ? answer.fallback_reason : "no" });
  const list = make("dl");
  for (const [key, value] of Object.entries(told)) list.append(make("dt", { textContent: key }), make("dd", { textContent: value }));
  for (const link of logged.links) list.append(make("dt", { textContent: link.name }), make("dd", {}, linked(link)));
  const lineage = make("pre", { textContent: JSON.stringify(logged.lineage, null, 2), tabIndex: 0 });
  const chain = make("details", {}, make("summary", { textContent: "Lineage" }), lineage);
  chain.open = Boolean($("inspector").querySelector("details[open]"));
  $("inspector").replaceChildren(list, exposure(logged.places), chain);
}

function linked(link) {
  return link.url ? make("a", { href: link.url, textContent: link.text, rel: "noopener" }) : document.createTextNode(link.text);
}

function exposure(places) {
  const head = ["Rank", "Item", "Score", "Propensity", "Policy"];
  const row = (tag, cells) => make("tr", {}, ...cells.map((cell, place) => make(tag, { textContent: cell, className: place > 1 && place < 4 ? "number" : "" })));
  const lines = places.map((p) => row("td", [p.rank, p.title, p.score.toFixed(3), p.propensity.toFixed(2), p.policy]));
  const table = make("table", {}, make("thead", {}, row("th", head)), make("tbody", {}, ...lines));
  const wide = make("div", { className: "wide", role: "region", tabIndex: 0 }, table);
  wide.setAttribute("aria-label", "The exposure, place by place");
  return wide;
}

async function start() {
  const { now, shoppers } = await call("/shop/start");
  shop.clock = Date.parse(now) - Date.now();
  $("named").hidden = shoppers.length > 0;
  $("known").replaceChildren(...shoppers.map((one) => make("option", { value: one.user_id })));
  $("shoppers").replaceChildren(...shoppers.map((one) => {
    const bought = one.bought.map((item) => `${item.times}× ${item.title}`).join(", ") || "nothing yet";
    const node = button("", `Shop as ${one.user_id}`, () => enter(one.user_id, one.user_id));
    node.append(make("strong", { textContent: one.user_id }), make("small", { textContent: `bought ${bought}` }));
    return make("li", {}, node);
  }));
}

$("pick").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("shopper").value.trim();
  attempt(() => enter(id, id));
});
$("visitor").addEventListener("click", () => attempt(() => enter(`visitor-${name()}`, "a new visitor")));
$("home").addEventListener("click", () => attempt(() => open({ surface: "home" })));
$("basket").addEventListener("click", () => attempt(() => open({ surface: "basket" })));
attempt(start);
