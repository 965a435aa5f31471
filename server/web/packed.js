// Arrays as the server packs them (`encoding_format: "base64"`).

/** Little-endian float32 in base64 -> {shape, values}. */
export function unpack({ shape, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return { shape, values: new Float32Array(bytes.buffer) };
}
