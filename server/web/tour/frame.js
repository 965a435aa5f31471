// The tour's own page: what stays the same from step to step.
import { el } from "../dom.js";

const STYLE = new URL("../style/tour.css", import.meta.url).href;

/** Fills `main`, once its style sheet is there -> the nodes that change. */
export async function frame(main, steps) {
  await styled();
  const parts = {
    text: el("textarea", { rows: 1, "aria-label": "Your own sentence", maxlength: 2000 }),
    own: el("button", { type: "button", hidden: true }, "The tour's sentence"),
    title: el("h3", { id: "tour-title", tabindex: -1 }),
    strip: el("p", { class: "tour-strip" }),
    words: el("div", { class: "tour-words" }),
    quote: el("q", {}),
    is: el("div", {}),
    formula: el("div", {}),
    map: el("div", { class: "tour-where" }),
    controls: el("div", { class: "tour-controls" }),
    stage: el("div", { class: "tour-stage" }),
    caption: el("p", { class: "tour-caption", role: "status" }),
    says: el("p", { class: "tour-says", role: "status" }),
    alt: el("p", { class: "tour-alt", id: "tour-alt" }),
    status: el("p", { class: "note", role: "status" }),
    back: el("a", { class: "tour-step" }, "← Back"),
    on: el("a", { class: "tour-step primary" }, "Next →"),
  };
  parts.form = el("form", { class: "tour-form" }, parts.text, el("button", { type: "submit", class: "primary" }, "Read this"), parts.own);
  parts.figure = el("figure", { class: "tour-figure", "aria-labelledby": "tour-title", "aria-describedby": "tour-alt" },
    el("figcaption", {}, parts.caption), parts.status, parts.stage, parts.says, parts.alt);
  const links = steps.map(({ title }, i) => el("a", { href: `#tour/${i + 1}`, title: `${i + 1}. ${title}`, "aria-label": `Step ${i + 1}: ${title}` }, String(i + 1)));
  const fold = el("details", { class: "tour-fold" }, el("summary", {}, "The text says / what is true"),
    el("p", { class: "tour-quote" }, "The text: ", parts.quote), parts.is);
  const sums = el("details", { class: "tour-fold" }, el("summary", {}, "The formula"), parts.formula);
  let isFirst = true; // the view opens at its top, and goes on where the step begins
  parts.go = (at) => {
    links.forEach((link, i) => (i === at ? link.setAttribute("aria-current", "step") : link.removeAttribute("aria-current")));
    for (const [link, to] of [[parts.back, at], [parts.on, at + 2]]) {
      link.hidden = !steps[to - 1];
      link.href = `#tour/${to}`;
    }
    fold.open = sums.open = false;
    main.scrollTop = 0;
    if (!isFirst) parts.title.focus({ preventScroll: true });
    if (!isFirst && matchMedia("(max-width: 34rem)").matches) parts.title.scrollIntoView();
    isFirst = false;
  };
  main.replaceChildren(
    el("h2", {}, "The tour"),
    el("p", { class: "lead" }, "How a GPT answers, in sixteen steps, with the numbers of the model that answers here. Arrow keys go on and back."),
    parts.form,
    el("nav", { class: "tour-steps", "aria-label": "Steps of the tour" }, ...links),
    el("div", { class: "tour" },
      el("section", { class: "tour-text", "aria-labelledby": "tour-title" },
        parts.title, parts.words, fold, sums, el("p", { class: "tour-turn" }, parts.back, parts.on)),
      el("div", { class: "tour-picture" }, parts.controls, parts.figure),
      parts.map),
    parts.strip);
  return parts;
}

/** The style sheet is of this view alone: it is fetched with it. */
function styled() {
  return new Promise((done) => {
    document.head.append(el("link", { rel: "stylesheet", href: STYLE, onload: done, onerror: done }));
  });
}
