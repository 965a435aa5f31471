// Files that the page offers for download.
import { el } from "./dom.js";

/** `content`: a text, or a Blob. */
export function offer(name, type, content) {
  const link = el("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
