// Reads a server-sent event stream from a fetch response, event by event.
// EventSource cannot POST, so the frames are read by hand: fields end with a line, events with an empty one.

const LOST = "The connection to the server was lost.";

/** Yields the JSON of each `data:` event until `[DONE]`; throws if the stream ends without it. */
export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read().catch(inWords);
    if (done) throw new Error(LOST);
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const data = dataOf(frame);
      if (data === "[DONE]") return;
      if (data !== "") yield JSON.parse(data);
    }
  }
}

/** A browser's own words for it say nothing ("network error"). */
function inWords(error) {
  throw error instanceof TypeError ? new Error(LOST) : error;
}

/** The data lines of one frame, joined; comments (keep-alive) have none. */
function dataOf(frame) {
  return frame
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).trimStart())
    .join("\n");
}
