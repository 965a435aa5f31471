// The page: four views behind one hash, the key dialog, the theme. Each view is a module of its own.
import { $, el } from "./dom.js";
import { connect, server } from "./api.js";
import * as chat from "./chat/chat.js";
import { read, write } from "./storage.js";

// The first one is there at once, the others are fetched when they are first looked at.
const VIEWS = {
  chat: () => Promise.resolve(chat),
  tour: () => import("./tour/tour.js"),
  inspector: () => import("./inspector/inspector.js"),
  timeline: () => import("./timeline/timeline.js"),
};
const mounted = { chat };
const THEMES = ["light dark", "light", "dark"];

/** A view, mounted. */
async function view(name) {
  const module = await VIEWS[name]();
  if (!mounted[name]) {
    mounted[name] = module;
    module.mount();
  }
  return module;
}

/** Shows the part of the page that the hash names; its name. */
function select() {
  const [asked] = location.hash.slice(1).split(/[/?]/); // "#tour/6" is a view and a place in it, "#inspector?…" one and a state
  const name = asked in VIEWS ? asked : "chat";
  for (const other of Object.keys(VIEWS)) {
    $(other).hidden = other !== name;
    const link = document.querySelector(`nav a[href="#${other}"]`);
    if (other === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (other !== name) mounted[other]?.hide?.();
  }
  return name;
}

async function route() {
  const name = select();
  const shown = await view(name);
  if (!$(name).hidden) shown.show?.();
}

/** Asks until the model is there, and says meanwhile why it is not. */
async function greet() {
  try {
    await connect();
    $("model").classList.add("known");
    const is = server.state === "ready" ? "" : ` · ${server.state}: its first question loads it`;
    $("model").textContent = `${server.model} · ${server.context.toLocaleString("en")} tokens${is}`;
    offer();
    chat.connected();
    route();
  } catch (error) {
    $("model").classList.remove("known");
    $("model").textContent = error.message;
    if (error.status !== 401) setTimeout(greet, 1000);
  }
}

/** A choice, where there is more than one model. */
function offer() {
  $("picker").hidden = server.models.length < 2;
  $("picker").replaceChildren(...server.models.map(({ id }) => el("option", { value: id }, id)));
  $("picker").value = server.model;
}

function useTheme(theme) {
  document.documentElement.style.colorScheme = theme;
  $("theme").title = `Colors: ${theme === THEMES[0] ? "as the system" : theme}`;
  write("thirdeye.theme", theme);
  dispatchEvent(new Event("theme"));
}

addEventListener("hashchange", route);
addEventListener("key-wanted", () => $("key-dialog").open || $("key-dialog").showModal());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  $("key").value = "";
  $("key-dialog").close();
  greet();
});
$("picker").addEventListener("change", () => {
  sessionStorage.setItem("model", $("picker").value);
  mounted.timeline?.restart();
  greet();
});
addEventListener("model-loaded", greet);
$("theme").addEventListener("click", () => {
  const now = document.documentElement.style.colorScheme || THEMES[0];
  useTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});

const theme = read("thirdeye.theme", THEMES[0]);
useTheme(THEMES.includes(theme) ? theme : THEMES[0]);
chat.mount(async (messages) => {
  (await view("inspector")).look({ messages });
  location.hash = "inspector";
});
select(); // what is in it comes with the model
greet();
