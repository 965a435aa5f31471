// What is shown, to take along: a link, the numbers as JSON, the large map as a picture, and Python that asks the same.
import { $, el } from "../../dom.js";
import { copyButton } from "../../copy.js";
import { offer } from "../../download.js";
import { hashOf } from "./address.js";
import { numbers } from "./numbers.js";
import { picture } from "./picture.js";
import { python } from "./python.js";

const NAME = "thirdeye-look";

/** `shown()` -> {state, found, made: {edits, result}, request}, or null while nothing is there. */
export function mount(shown) {
  const link = () => `${location.href.split("#")[0]}${hashOf(shown().state)}`;
  const fallback = el("code", {});
  const shownLink = () => {
    fallback.textContent = link();
    return fallback;
  };
  const code = el("code", { tabindex: 0 });
  const text = () => python(shown());
  const fill = () => (code.textContent = text());
  const button = (name, title, onclick) => el("button", { type: "button", class: "quiet", title, onclick }, name);
  const script = el("details", { id: "keep-python", ontoggle: (event) => event.target.open && fill() }, el("summary", {}, "Python"),
    el("pre", {}, code),
    el("p", { class: "bar-row" }, copyButton(text, () => code), button("Save", "As a file", () => offer(`${NAME}.py`, "text/x-python", text()))));
  $("keep").replaceChildren(
    el("p", { class: "bar-row" },
      copyButton(link, shownLink, "Copy link"),
      button("Save JSON", "All numbers that are shown, as the API has them", () => offer(`${NAME}.json`, "application/json", numbers(shown()))),
      button("Save PNG", "The large map", async () => offer(`${NAME}.png`, "image/png", await picture(shown()))),
      fallback),
    script);
  changed = () => script.open && fill();
}

/** Something else is shown. */
export let changed = () => {};
