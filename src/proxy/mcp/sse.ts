/** One server-sent event. */
export interface SentEvent {
  readonly event: string;
  /** Lines joined by line feeds. */
  readonly data: string;
  /** By which the stream is resumed behind it. */
  readonly id?: string;
  /** Milliseconds that the server asks to be waited before that. */
  readonly retry?: number;
}

/** An event, or its line, is longer than we are ready to keep. */
export class EventTooLargeError extends Error {
  override readonly name = "EventTooLargeError";
}

/**
 * Parses an event stream: lines end in CR, LF or CRLF, also across chunks; a byte order mark may lead; comments are told as
 * `undefined`, for they keep a connection alive.
 *
 * @param maxBytes of one event
 * @throws {EventTooLargeError}
 * @see WHATWG HTML §9.2.6; standards 17.5
 */
export function createEventParser(maxBytes: number): { push(chunk: Uint8Array): (SentEvent | undefined)[] } {
  const decoder = new TextDecoder("utf-8");
  let rest = "";
  // Of `rest`, so that a line that drips in is looked at once.
  let looked = 0;
  let skipsLineFeed = false;
  let event = "";
  let data: string[] = [];
  let id: string | undefined;
  let retry: number | undefined;
  let size = 0;

  function line(text: string, found: (SentEvent | undefined)[]): void {
    if (text === "") {
      if (data.length > 0)
        found.push({
          event: event === "" ? "message" : event,
          data: data.join("\n"),
          ...(id !== undefined && { id }),
          ...(retry !== undefined && { retry }),
        });
      event = "";
      data = [];
      id = undefined;
      retry = undefined;
      size = 0;
      return;
    }
    if (text.startsWith(":")) {
      found.push(undefined);
      return;
    }
    const colon = text.indexOf(":");
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(text[colon + 1] === " " ? colon + 2 : colon + 1);
    size += text.length;
    if (size > maxBytes) throw new EventTooLargeError();
    if (field === "data") data.push(value);
    else if (field === "event") event = value;
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && /^\d{1,6}$/.test(value)) retry = Number(value);
  }

  return {
    push(chunk) {
      let text = decoder.decode(chunk, { stream: true });
      if (skipsLineFeed && text.startsWith("\n")) text = text.slice(1);
      if (text !== "") skipsLineFeed = false;
      rest += text;
      const found: (SentEvent | undefined)[] = [];
      let from = 0;
      for (let at = looked; at < rest.length; at++) {
        const character = rest[at];
        if (character !== "\n" && character !== "\r") continue;
        line(rest.slice(from, at), found);
        if (character === "\r") {
          if (at + 1 === rest.length) skipsLineFeed = true;
          else if (rest[at + 1] === "\n") at++;
        }
        from = at + 1;
      }
      rest = rest.slice(from);
      looked = rest.length;
      if (rest.length > maxBytes) throw new EventTooLargeError();
      return found;
    },
  };
}

/** An event as we write it: one data line for each line. */
export function writeEvent(data: string, { id, retry }: Pick<SentEvent, "id" | "retry"> = {}): string {
  const head = `${id === undefined ? "" : `id: ${id}\n`}${retry === undefined ? "" : `retry: ${retry}\n`}`;
  return `event: message\n${head}${data
    .split("\n")
    .map((line) => `data: ${line}\n`)
    .join("")}\n`;
}
