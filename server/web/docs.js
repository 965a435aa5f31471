// The boxes of /docs: sends what is in one, shows what comes as it comes. The key is this tab's alone.
import { call } from "./api.js";

const key = document.getElementById("key");
key.value = sessionStorage.getItem("key") ?? "";
key.addEventListener("change", () => sessionStorage.setItem("key", key.value));

/** Writes the answer into `out`; one that is JSON in one piece is laid out. */
async function show(response, out) {
  const text = response.body.pipeThrough(new TextDecoderStream());
  for (const reader = text.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    out.textContent += value;
  }
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    out.textContent = JSON.stringify(JSON.parse(out.textContent), null, 1);
  }
}

for (const trial of document.querySelectorAll(".trial")) {
  const [box, button, out] = ["textarea", "button", "pre"].map((name) => trial.querySelector(name));
  let sending = null;
  button.addEventListener("click", async () => {
    if (sending) return sending.abort();
    sending = new AbortController();
    button.textContent = "Stop";
    out.hidden = false;
    out.textContent = "";
    const { method, path } = trial.dataset;
    const body = box ? { body: box.value, headers: { "Content-Type": "application/json" } } : {};
    try {
      await show(await call(path, { method, signal: sending.signal, ...body }), out);
    } catch (error) {
      out.textContent += error.name === "AbortError" ? "\n(stopped)" : error.message;
    }
    sending = null;
    button.textContent = "Send";
  });
}
