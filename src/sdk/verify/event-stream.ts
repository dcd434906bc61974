/** A stream of events that is not one: its lines are longer than any frame. */
export class EventStreamError extends Error {
  override readonly name = "EventStreamError";
}

/**
 * The data of each event of a stream, as it comes. Comments, names and ids are passed over: what counts is signed.
 *
 * @param maxCharacters longest data that is read
 * @throws {EventStreamError}
 * @see WHATWG HTML §9.2.6 (interpreting an event stream)
 */
export async function* readEvents(body: AsyncIterable<Uint8Array>, maxCharacters: number): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8");
  let rest = "";
  let data: string[] = [];
  let size = 0;
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    // A carriage return at the end of a chunk may be half of a line end.
    const isHalf = rest.endsWith("\r");
    const lines = (isHalf ? rest.slice(0, -1) : rest).split(/\r\n|\n|\r/);
    rest = (lines.pop() ?? "") + (isHalf ? "\r" : "");
    if (rest.length > maxCharacters) throw new EventStreamError();
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield data.join("\n");
        [data, size] = [[], 0];
      } else if (line.startsWith("data:")) {
        const value = line.slice(line.startsWith("data: ") ? 6 : 5);
        size += value.length + 1;
        if (size > maxCharacters) throw new EventStreamError();
        data.push(value);
      }
    }
  }
}
